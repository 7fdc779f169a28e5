//! All mistakes of a profile, where the parser stops at the first: each is put right in a copy, and the copy is parsed again.
//!
//! The parser stays the judge. What is told here is what it says of the copy, and a profile that it takes has no mistakes.

use serde_json::{Map, Value};

use crate::error::{Error, Position};
use crate::order;
use crate::snap::profile::{Profile, place};

/// Whoever made more reads these first.
const MOST: usize = 20;

/// A mistake: where it is, and what the parser says of it.
pub struct Mistake {
    pub position: Option<Position>,
    pub reason: String,
    /// The text that the reason is about: the file's, or the copy's.
    pub text: Vec<u8>,
    /// Where the parser gave up in that text.
    pub place: Option<Position>,
}

/// The mistakes after the first one, and whether there are more than these.
pub fn others(bytes: &[u8], first: &Error) -> (Vec<Mistake>, bool) {
    let (Ok(mut copy), Some(key)) = (serde_json::from_slice::<Value>(bytes), key_of(first, bytes)) else {
        return (Vec::new(), false);
    };
    let mut found = Vec::new();
    // A key that stands twice is there once in the copy.
    if !put_right(&mut copy, first, &key) && !reason_of(first).starts_with("duplicate field") {
        return (found, false);
    }
    let mut known = vec![key];
    while found.len() < MOST {
        let text = copy.to_string().into_bytes();
        let Err(error) = Profile::parse(&text, "") else { break };
        let Some(key) = key_of(&error, &text) else { break };
        let in_file = before_removals(&key, &known);
        // What putting one right has made wrong is no mistake of the file's.
        if known.contains(&in_file) {
            break;
        }
        let is_over = !put_right(&mut copy, &error, &key);
        if let Error::Profile { reason, position: place, .. } = error {
            let reason = match reason.strip_prefix(&key) {
                Some(rest) => format!("{in_file}{rest}"),
                None => reason,
            };
            found.push(Mistake { position: place::of_key(bytes, &in_file), reason, text, place });
        }
        if is_over {
            break;
        }
        known.push(in_file);
    }
    let place = |mistake: &Mistake| mistake.position.as_ref().map(|at| (at.line, at.column));
    order::sort_by(&mut found, |a, b| place(a).cmp(&place(b)));
    let more = Profile::parse(copy.to_string().as_bytes(), "").is_err();
    (found, more)
}

/// The key in the file of what has this key in the copy: items of lists that were wrong are gone from there.
fn before_removals(key: &str, known: &[String]) -> String {
    let Some((above, Last::Item(mut n))) = split(key) else { return key.to_owned() };
    let mut gone: Vec<usize> = known
        .iter()
        .filter_map(|known| split(known))
        .filter_map(|(list, last)| match last {
            Last::Item(n) if list == above => Some(n),
            _ => None,
        })
        .collect();
    order::sort(&mut gone);
    for at in gone {
        n += usize::from(at <= n);
    }
    format!("{above}[{n}]")
}

fn reason_of(error: &Error) -> &str {
    match error {
        Error::Profile { reason, .. } => reason,
        _ => "",
    }
}

/// The name in "missing field `name`" and its like.
pub fn named<'a>(reason: &'a str, what: &str) -> Option<&'a str> {
    let name = reason.strip_prefix(what)?.strip_prefix(" field `")?;
    name.split('`').next()
}

/// The key that a mistake is about: a reason begins with it, or names the field of the object in which the parser stopped.
fn key_of(error: &Error, text: &[u8]) -> Option<String> {
    let Error::Profile { reason, position, .. } = error else { return None };
    let field = ["missing", "unknown", "duplicate"].into_iter().find_map(|what| named(reason, what));
    let Some(field) = field else {
        return reason.split_once(": ").map(|(key, _)| key.to_owned()).filter(|key| !key.contains(' '));
    };
    let above = place::open_at(text, position.as_ref()?).map(|key| key + ".").unwrap_or_default();
    Some(above + field)
}

/// Puts one right: with a value that is good, or without the key. False if that cannot be done.
fn put_right(copy: &mut Value, error: &Error, key: &str) -> bool {
    let Some((above, last)) = split(key) else { return false };
    let good = good_value(above, &last);
    let Some(parent) = at(copy, above) else { return false };
    match (parent, last) {
        (Value::Object(object), Last::Field(name)) => match good {
            Some(good) if named(reason_of(error), "unknown").is_none() => drop(object.insert(name, good)),
            _ => {
                let (before, all) = (object.len(), std::mem::take(object));
                object.extend(all.into_iter().filter(|(key, _)| *key != name));
                return object.len() < before;
            }
        },
        (Value::Array(list), Last::Item(n)) if n < list.len() => drop(list.remove(n)),
        _ => return false,
    }
    true
}

enum Last {
    Field(String),
    Item(usize),
}

/// What a profile cannot do without, as MicroK8s' has it.
fn good_value(above: &str, last: &Last) -> Option<Value> {
    let Last::Field(name) = last else { return None };
    let text = match (above, name.as_str()) {
        ("", "schema") => return Some(Value::from(1)),
        ("", "snap") => "microk8s",
        ("", "containerd") => {
            let fields = ["address", "state", "root"].map(|name| {
                (name.to_owned(), good_value("containerd", &Last::Field(name.into())).unwrap_or_default())
            });
            let mut object = Map::new();
            object.extend(fields);
            return Some(Value::Object(object));
        }
        ("containerd", "address") => "$SNAP_COMMON/run/containerd.sock",
        ("containerd", "state") => "$SNAP_COMMON/run/containerd",
        ("containerd", "root") => "$SNAP_COMMON/var/lib/containerd",
        ("kubelet", "root") => "$SNAP_COMMON/var/lib/kubelet",
        _ => return None,
    };
    Some(Value::from(text))
}

/// `a.b[1]` is the item 1 of `a.b`; `a.b` is the field `b` of `a`.
fn split(key: &str) -> Option<(&str, Last)> {
    if let Some(list) = key.strip_suffix(']') {
        let (above, number) = list.rsplit_once('[')?;
        return Some((above, Last::Item(number.parse().ok()?)));
    }
    let (above, name) = key.rsplit_once('.').unwrap_or(("", key));
    Some((above, Last::Field(name.to_owned())))
}

fn at<'a>(copy: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    if key.is_empty() {
        return Some(copy);
    }
    let (above, last) = split(key)?;
    match last {
        Last::Field(name) => at(copy, above)?.get_mut(name),
        Last::Item(n) => at(copy, above)?.get_mut(n),
    }
}
