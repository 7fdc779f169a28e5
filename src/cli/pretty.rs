//! JSON for people. Done on the text: a second serialiser for each type would be larger than this.

/// Compact JSON, one value to a line.
pub fn pretty(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0;
    let mut quoted = false;
    let mut escaped = false;
    let mut before = ' ';
    for c in json.chars() {
        if quoted {
            out.push(c);
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => {
                depth -= 1;
                if !matches!(before, '{' | '[') {
                    line(&mut out, depth);
                }
            }
            '"' => quoted = true,
            _ => {}
        }
        // The first value of a list or an object begins a line of its own.
        if matches!(before, '{' | '[') && !matches!(c, '}' | ']') {
            let inner = if matches!(c, '{' | '[') { depth - 1 } else { depth };
            line(&mut out, inner);
        }
        out.push(c);
        match c {
            ',' => line(&mut out, depth),
            ':' => out.push(' '),
            _ => {}
        }
        before = c;
    }
    out.push('\n');
    out
}

fn line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    #[test]
    fn is_what_serde_would_have_made_of_it() {
        for json in [
            r#"{"a":[1,{"b":"x: [y], \\\"{z}\\"},[]],"c":{},"d":[[1],[{"e":null}]]}"#,
            "[]",
            "7",
            r#"{"one":true}"#,
        ] {
            let value: serde_json::Value = serde_json::from_str(json).unwrap();
            let expected = serde_json::to_string_pretty(&value).unwrap() + "\n";
            assert_eq!(super::pretty(&serde_json::to_string(&value).unwrap()), expected);
        }
    }
}
