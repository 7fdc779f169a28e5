//! Leaves out of the release programs what only an unwinder reads, and packs their relocations.
//!
//! Unwind tables and the tables of landing pads are an eighth of a static program and serve nobody: a panic aborts, and
//! neither std's nor glibc's part of them can be left out in another way. Debug builds and tests unwind, and keep theirs.

use std::process::Command;

const WITHOUT_UNWIND_TABLES: &str = "SECTIONS { /DISCARD/ : { *(.eh_frame) *(.eh_frame.*) \
    *(.gcc_except_table) *(.gcc_except_table.*) } } INSERT AFTER .rodata;\n";

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |key: &str, value: &str| std::env::var(key).is_ok_and(|v| v == value);
    // Only where it is tested: other linkers and architectures keep what they make.
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_ARCH", "x86_64") && is("CARGO_CFG_TARGET_ENV", "gnu")
    {
        let script = std::env::var("OUT_DIR").unwrap_or_default() + "/without-unwind-tables.ld";
        std::fs::write(&script, WITHOUT_UNWIND_TABLES)?;
        let script = format!("-Wl,-T,{script}");
        // Part of the unwinder's code is linked all the same; our replacement of its entry (src/linux/sys/glibc.rs) comes first and wins.
        let mut arguments = vec!["-Wl,--no-eh-frame-hdr", "-Wl,-z,muldefs", &script];
        if applies_packed_relocations() {
            arguments.push("-Wl,-z,pack-relative-relocs");
        }
        arguments.iter().for_each(|argument| println!("cargo:rustc-link-arg-bins={argument}"));
    }
    Ok(())
}

/// A static program relocates itself by glibc's code, which knows packed relocations since 2.36.
fn applies_packed_relocations() -> bool {
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok();
    let version = said.and_then(|said| String::from_utf8(said.stdout).ok()).unwrap_or_default();
    let mut numbers = version.trim().trim_start_matches("glibc ").split('.').map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(2)), Some(Ok(36..))))
}
