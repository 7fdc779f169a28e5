//! Leaves out of the release programs what only an unwinder reads and what is there twice, and packs their relocations and the JSON
//! Schemas.
//!
//! Unwind tables and the tables of landing pads are an eighth of a static program and serve nobody: a panic aborts, and
//! neither std's nor glibc's part of them can be left out in another way. Debug builds and tests unwind, and keep theirs.

use std::io::{Error, Result};
use std::process::Command;

const WITHOUT_UNWIND_TABLES: &str = "SECTIONS { /DISCARD/ : { *(.eh_frame) *(.eh_frame.*) \
    *(.gcc_except_table) *(.gcc_except_table.*) } } INSERT AFTER .rodata;\n";

/// Texts that the command line only prints.
const PACKED: [&str; 2] = ["src/report/open-schema.json", "src/snap/profile/schema.json"];

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    PACKED.into_iter().try_for_each(pack)?;
    let is = |key: &str, value: &str| std::env::var(key).is_ok_and(|v| v == value);
    // Only where it is tested: other linkers and architectures keep what they make.
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_ARCH", "x86_64") && is("CARGO_CFG_TARGET_ENV", "gnu")
    {
        let script = std::env::var("OUT_DIR").unwrap_or_default() + "/without-unwind-tables.ld";
        std::fs::write(&script, WITHOUT_UNWIND_TABLES)?;
        let script = format!("-Wl,-T,{script}");
        // Where a toolchain's own code names more of the unwinder than is replaced (src/linux/sys/glibc.rs), its code is linked as
        // well; the replacements come first and win.
        let mut arguments = vec!["-Wl,--no-eh-frame-hdr", "-Wl,-z,muldefs", &script];
        if applies_packed_relocations() {
            arguments.push("-Wl,-z,pack-relative-relocs");
        }
        if folds_functions()? {
            arguments.push(FOLD);
        }
        arguments.iter().for_each(|argument| println!("cargo:rustc-link-arg-bins={argument}"));
    }
    Ok(())
}

/// Functions that came out as the same instructions are kept once: 11 KB of each program. No address of a function is compared
/// with another one's.
const FOLD: &str = "-Wl,--icf=all";

/// rustc's own linker can do that, and not the one of every distribution.
fn folds_functions() -> Result<bool> {
    let variable = |key: &str| std::env::var(key).unwrap_or_default();
    let source = variable("OUT_DIR") + "/probe.rs";
    std::fs::write(&source, "fn main() {}")?;
    let mut probe = Command::new(variable("RUSTC"));
    probe.args(["--target", &variable("TARGET"), "-C", &format!("link-arg={FOLD}"), "-o"]);
    probe.args([variable("OUT_DIR") + "/probe", source]);
    Ok(probe.output()?.status.success())
}

/// A static program relocates itself by glibc's code, which knows packed relocations since 2.36.
fn applies_packed_relocations() -> bool {
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok();
    let version = said.and_then(|said| String::from_utf8(said.stdout).ok()).unwrap_or_default();
    let mut numbers = version.trim().trim_start_matches("glibc ").split('.').map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(2)), Some(Ok(36..))))
}

/// Writes a text in a third of its size, as `src/cli/packed.rs` reads it: how many pairs there are, the pairs, the rest. Each
/// byte above ASCII stands for a pair of bytes, the most frequent one when it was made.
fn pack(file: &str) -> Result<()> {
    println!("cargo:rerun-if-changed={file}");
    let mut text = std::fs::read(file)?;
    if !text.is_ascii() {
        return Err(Error::other(format!("{file} is not ASCII")));
    }
    let mut pairs = Vec::new();
    for code in 128..=255 {
        let mut counts = vec![0u32; 1 << 16];
        text.windows(2).for_each(|pair| counts[usize::from(u16::from_be_bytes([pair[0], pair[1]]))] += 1);
        let Some((most, _)) = (0..=u16::MAX).zip(&counts).max_by_key(|(_, count)| **count) else { break };
        let pair = most.to_be_bytes();
        let mut shorter = Vec::with_capacity(text.len());
        let mut rest = &text[..];
        while let Some((first, after)) = rest.split_first() {
            let is_pair = rest.starts_with(&pair);
            shorter.push(if is_pair { code } else { *first });
            rest = if is_pair { &rest[2..] } else { after };
        }
        pairs.extend(pair);
        text = shorter;
    }
    let mut packed = vec![(pairs.len() / 2) as u8];
    packed.extend(pairs);
    packed.extend(text);
    let name = file.trim_start_matches("src/").replace('/', "-");
    std::fs::write(format!("{}/{name}", std::env::var("OUT_DIR").unwrap_or_default()), packed)
}
