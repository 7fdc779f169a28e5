//! Writes a container image of a few programs, or of a root file system, in the docker-archive form that `ctr images import` reads.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};

/// Writes the image `reference` to `to`; `programs` are (file or directory on this machine, absolute path in the image). A
/// stop signal is written as it is given.
pub fn write(
    to: &Path,
    reference: &str,
    programs: &[(String, String)],
    command: &[String],
    stop_signal: Option<&str>,
) -> io::Result<()> {
    let mut layer = Vec::new();
    // Mount points of what a runtime puts into every container, so that the root may also be read-only.
    for dir in ["dev", "etc", "proc", "sys", "tmp"] {
        directory(&mut layer, dir)?;
    }
    for (file, inside) in programs {
        add(&mut layer, Path::new(file), inside.trim_matches('/'))?;
    }
    end(&mut layer)?;

    let mut of_container = json!({ "Entrypoint": command, "WorkingDir": "/" });
    if let Some(signal) = stop_signal {
        of_container["StopSignal"] = signal.into();
    }
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": of_container,
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex_sha256(&layer))] },
    });
    let config = serde_json::to_vec(&config)?;
    let config_name = format!("{}.json", hex_sha256(&config));
    let manifest =
        json!([{ "Config": config_name, "RepoTags": [reference], "Layers": ["layer.tar"] }]).to_string();

    let mut archive = Vec::new();
    entry(&mut archive, &config_name, 0o644, b'0', &config)?;
    entry(&mut archive, "layer.tar", 0o644, b'0', &layer)?;
    entry(&mut archive, "manifest.json", 0o644, b'0', manifest.as_bytes())?;
    end(&mut archive)?;
    fs::write(to, archive)
}

/// This machine's, by the name that images have for it (Go's).
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

pub fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A file, or a directory with all that is in it, symlinks as they are.
fn add(out: &mut Vec<u8>, from: &Path, name: &str) -> io::Result<()> {
    if !from.is_dir() {
        // Readable for every user, whatever the builder's umask was.
        let mode = if fs::metadata(from)?.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
        return entry(out, name, mode, b'0', &fs::read(from)?);
    }
    if !name.is_empty() {
        directory(out, name)?;
    }
    let mut names = fs::read_dir(from)?.map(|e| Ok(e?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort(); // the same files give the same image
    for file in names {
        let (path, file) = (from.join(&file), file.to_string_lossy());
        let name = if name.is_empty() { file.into_owned() } else { format!("{name}/{file}") };
        match fs::read_link(&path) {
            Ok(target) => link(out, &name, &target.to_string_lossy())?,
            Err(_) => add(out, &path, &name)?,
        }
    }
    Ok(())
}

fn directory(out: &mut Vec<u8>, name: &str) -> io::Result<()> {
    entry(out, &format!("{name}/"), 0o755, b'5', &[])
}

fn link(out: &mut Vec<u8>, name: &str, target: &str) -> io::Result<()> {
    write_entry(out, name, target, 0o777, b'2', &[])
}

fn entry(out: &mut Vec<u8>, name: &str, mode: u32, kind: u8, content: &[u8]) -> io::Result<()> {
    write_entry(out, name, "", mode, kind, content)
}

/// One ustar entry: a 512-byte header, then the content filled up to whole blocks.
fn write_entry(
    out: &mut Vec<u8>,
    name: &str,
    target: &str,
    mode: u32,
    kind: u8,
    content: &[u8],
) -> io::Result<()> {
    let mut header = [0u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    if name.len() >= 100 || target.len() >= 100 {
        return Err(io::Error::other(format!("cannot write '{name}' to an image: name too long")));
    }
    put(0, name);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", content.len()));
    put(136, "00000000000"); // a fixed time: the same programs give the same image
    put(148, "        "); // the checksum counts its own field as blanks
    put(157, target);
    put(257, "ustar\0");
    put(263, "00");
    header[156] = kind;
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.write_all(&header)?;
    out.write_all(content)?;
    out.resize(out.len().next_multiple_of(512), 0);
    Ok(())
}

/// Two empty blocks end an archive.
fn end(out: &mut Vec<u8>) -> io::Result<()> {
    out.write_all(&[0; 1024])
}
