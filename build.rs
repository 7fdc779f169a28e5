//! Leaves the unwind tables out of the release programs.
//!
//! They are an eighth of a static program and serve nobody: a panic aborts, and neither std's nor glibc's part of
//! them can be left out in another way. Debug builds and tests unwind, and keep theirs.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/without-unwind-tables.ld");
    let is = |key: &str, value: &str| std::env::var(key).is_ok_and(|v| v == value);
    // Only where it is tested: other linkers and architectures keep what they make.
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_ARCH", "x86_64") && is("CARGO_CFG_TARGET_ENV", "gnu")
    {
        let script =
            std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default() + "/src/without-unwind-tables.ld";
        // Some of the unwinder's own code comes along; its entry that we replace (src/sys.rs) comes first and wins.
        for argument in ["-Wl,--no-eh-frame-hdr", "-Wl,-z,muldefs", &format!("-Wl,-T,{script}")] {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
    }
}
