//! The result document, held against its schema. Apart from `hook`, because the validator is the largest of the tests'
//! dependencies, and the demonstration does without it.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::Result;
use super::hook::{Ended, Snap};

impl Snap {
    /// The result document, checked against its schema and the rules of its file.
    pub fn document(&self) -> Result<Value> {
        let path = self.result_file();
        let file = File::open(&path).map_err(|e| format!("cannot open '{}': {e}", path.display()))?;
        let mode = file.metadata()?.permissions().mode() & 0o777;
        if mode != 0o600 {
            return Err(format!("'{}' has mode {mode:o}", path.display()).into());
        }
        let document: Value = serde_json::from_reader(file)?;
        check(&document)?;
        Ok(document)
    }
}

impl Ended {
    /// The cut document in the last line of the output, checked, within the bounds of what snapd keeps.
    pub fn cut_document(&self) -> Result<Value> {
        if self.output.len() > 8192 || self.output.lines().count() > 100 {
            let lines = self.output.lines().count();
            return Err(format!("{} bytes in {lines} lines of output", self.output.len()).into());
        }
        let last = self.output.lines().last().ok_or("the hook printed nothing")?;
        let document = serde_json::from_str(last).map_err(|e| format!("last line of output: {e}: {last}"))?;
        check(&document)?;
        Ok(document)
    }
}

/// An error that names every place where the document breaks the schema.
pub fn check(document: &Value) -> Result<()> {
    let text = include_bytes!("../../src/report.schema.json");
    let schema = jsonschema::validator_for(&serde_json::from_slice(text)?)?;
    let wrong: Vec<_> = schema.iter_errors(document).map(|e| format!("{}: {e}", e.instance_path())).collect();
    if wrong.is_empty() { Ok(()) } else { Err(format!("against the schema: {}", wrong.join("; ")).into()) }
}
