//! Leaves the unwind tables out of the release programs.
//!
//! They are an eighth of a static program and serve nobody: a panic aborts, and neither std's nor glibc's part of
//! them can be left out in another way. Debug builds and tests unwind, and keep theirs.

const WITHOUT_UNWIND_TABLES: &str =
    "SECTIONS { /DISCARD/ : { *(.eh_frame) *(.eh_frame.*) } } INSERT AFTER .rodata;\n";

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |key: &str, value: &str| std::env::var(key).is_ok_and(|v| v == value);
    // Only where it is tested: other linkers and architectures keep what they make.
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_ARCH", "x86_64") && is("CARGO_CFG_TARGET_ENV", "gnu")
    {
        let script = std::env::var("OUT_DIR").unwrap_or_default() + "/without-unwind-tables.ld";
        std::fs::write(&script, WITHOUT_UNWIND_TABLES)?;
        // Part of the unwinder's code is linked all the same; our replacement of its entry (src/linux/sys.rs) comes first and wins.
        for argument in ["-Wl,--no-eh-frame-hdr", "-Wl,-z,muldefs", &format!("-Wl,-T,{script}")] {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
    }
    Ok(())
}
