//! Breaking lines where a terminal ends.

use unicode_width::UnicodeWidthChar;

/// Breaks text into lines of at most so many columns, all but the first with so many spaces before them: after a
/// space if there is one, else after a character at which paths and names may be broken, else anywhere.
pub fn wrap(text: &str, width: usize, hang: usize) -> Vec<String> {
    let mut rest: Vec<char> = text.chars().collect();
    let mut lines: Vec<String> = Vec::new();
    let mut indent = String::new();
    loop {
        let fits = how_many_fit(&rest, width - indent.len());
        if fits == rest.len() {
            break;
        }
        let enough = |at: &usize| *at > fits / 3;
        let space = rest[..=fits].iter().rposition(|c| *c == ' ').map(|i| i + 1);
        let softer = || rest[..fits].iter().rposition(|c| matches!(c, '/' | '-' | ',' | ':')).map(|i| i + 1);
        let at = space.filter(enough).or_else(|| softer().filter(enough)).unwrap_or(fits);
        let tail = rest.split_off(at);
        lines.push(indent.clone() + rest.iter().collect::<String>().trim_end());
        rest = tail;
        indent = " ".repeat(hang);
    }
    lines.push(indent + &rest.iter().collect::<String>());
    lines
}

/// How many columns a text takes. Character by character, as it is wrapped.
pub fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// How many of these characters fit into so many columns; one at least, or the text would never end.
fn how_many_fit(text: &[char], columns: usize) -> usize {
    let mut used = 0;
    let fits = text.iter().take_while(|c| {
        used += c.width().unwrap_or(0);
        used <= columns
    });
    fits.count().max(1).min(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapping_keeps_every_character_but_the_spaces_at_breaks() {
        let text = "one two-three/four,five abcdefghijklmnopqrstuvwxyz";
        let joined: String = wrap(text, 9, 2).concat();
        assert_eq!(joined.replace(' ', ""), text.replace(' ', ""));
        assert!(wrap(text, 9, 2).iter().all(|l| l.chars().count() <= 9));
    }

    #[test]
    fn a_character_that_takes_two_columns_is_counted_as_two() {
        assert_eq!(wrap("名前名前名前", 5, 0), ["名前", "名前", "名前"]);
        assert_eq!(wrap("名", 1, 0), ["名"]);
    }
}
