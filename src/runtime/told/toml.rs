//! TOML, as far as containerd's configuration has to be understood: which key has which texts, however it is written.

/// Values within values are read so deep.
const DEPTH: usize = 16;

/// No key of containerd's is as long, with the tables that it is in.
const LONGEST: usize = 512;

/// Tells each key with the texts of its value, in the order of the file. A key's parts are joined by dots and have no quotes. What makes
/// no sense is left out, up to the end of its line.
pub fn each(text: &str, found: &mut dyn FnMut(&str, Vec<String>)) {
    let mut reader = Reader { rest: text, found };
    let mut table = String::new();
    loop {
        reader.space();
        if reader.rest.is_empty() {
            return;
        }
        if reader.eat('[') {
            reader.eat('[');
            // Keys below a name that makes no sense are of no other table.
            let name = reader.key().filter(|name| name.len() < LONGEST);
            table = name.unwrap_or_else(|| "?".into()) + ".";
        } else {
            reader.pair(&table, DEPTH);
        }
        reader.rest = reader.rest.find('\n').map_or("", |end| &reader.rest[end..]);
    }
}

struct Reader<'a> {
    rest: &'a str,
    found: &'a mut dyn FnMut(&str, Vec<String>),
}

impl Reader<'_> {
    fn eat(&mut self, wanted: char) -> bool {
        let rest = self.rest.strip_prefix(wanted);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    /// Blanks, ends of lines and comments.
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
        while self.rest.starts_with('#') {
            self.rest = self.rest.find('\n').map_or("", |end| self.rest[end..].trim_start());
        }
    }

    fn key(&mut self) -> Option<String> {
        let mut key = String::new();
        loop {
            self.blanks();
            if self.rest.starts_with(['"', '\'']) {
                key += &self.string()?;
            } else {
                let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
                let end = self.rest.find(|c| !is_bare(c)).unwrap_or(self.rest.len());
                key += &self.rest[..end];
                self.rest = &self.rest[end..];
            }
            self.blanks();
            if !self.eat('.') {
                return Some(key).filter(|key| !key.is_empty());
            }
            key.push('.');
        }
    }

    fn pair(&mut self, table: &str, left: usize) -> Option<()> {
        let key = Some(table.to_owned() + &self.key()?).filter(|key| key.len() <= LONGEST)?;
        let mut texts = Vec::new();
        self.eat('=').then_some(())?;
        let read = self.value(&key, left, &mut texts);
        (self.found)(&key, texts);
        read
    }

    fn value(&mut self, key: &str, left: usize, texts: &mut Vec<String>) -> Option<()> {
        let left = left.checked_sub(1)?;
        self.blanks();
        if self.rest.starts_with(['"', '\'']) {
            texts.push(self.string()?);
        } else if self.eat('[') {
            return self.all(']', |reader| reader.value(key, left, texts));
        } else if self.eat('{') {
            return self.all('}', |reader| reader.pair(&format!("{key}."), left));
        } else {
            let end = self.rest.find([',', ']', '}', '#', '\n']).unwrap_or(self.rest.len());
            self.rest = &self.rest[end..];
        }
        Some(())
    }

    /// What commas part, and this ends.
    fn all(&mut self, end: char, mut one: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        loop {
            self.space();
            if self.eat(end) {
                return Some(());
            }
            one(self)?;
            self.space();
            if !self.eat(',') {
                return self.eat(end).then_some(());
            }
        }
    }

    /// A backslash stays, but for one before a quote or another one: no path that is plain has any.
    fn string(&mut self) -> Option<String> {
        for long in ["\"\"\"", "'''"] {
            if let Some((text, rest)) = self.rest.strip_prefix(long).and_then(|rest| rest.split_once(long)) {
                self.rest = rest;
                return Some(text.trim_start_matches(['\r', '\n']).to_owned());
            }
        }
        let mut chars = self.rest.char_indices();
        let quote = chars.next()?.1;
        let mut text = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                '\n' => return None,
                _ if c == quote => {
                    self.rest = &self.rest[at + 1..];
                    return Some(text);
                }
                '\\' if quote == '"' => {
                    let next = chars.next()?.1;
                    text.extend(Some(c).filter(|_| next != '"' && next != '\\'));
                    text.push(next);
                }
                _ => text.push(c),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
