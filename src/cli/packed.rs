//! Long texts that are only printed. `build.rs` packs them, to a third of their size.

const RESULTS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/report-open-schema.json"));
const PROFILES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/snap-profile-schema.json"));

/// The JSON Schema of results, for readers.
pub fn schema_of_results() -> String {
    super::pretty::pretty(unpack(RESULTS).trim_end())
}

/// The JSON Schema of profiles.
pub fn schema_of_profiles() -> String {
    unpack(PROFILES)
}

/// Each byte above ASCII stands for two, which may do so, too. They are told first, behind how many there are.
fn unpack(packed: &[u8]) -> String {
    let told = packed.split_first().and_then(|(many, rest)| rest.split_at_checked(2 * usize::from(*many)));
    let (pairs, text) = told.unwrap_or_default();
    let mut out = String::with_capacity(4 * text.len());
    let mut to_do = Vec::new();
    for byte in text {
        to_do.push(*byte);
        while let Some(byte) = to_do.pop() {
            match pairs.chunks_exact(2).nth(usize::from(byte.wrapping_sub(128))).filter(|_| byte >= 128) {
                Some(pair) => to_do.extend([pair[1], pair[0]]),
                None => out.push(char::from(byte)),
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_unpacked_is_what_was_packed() {
        assert_eq!(super::schema_of_profiles(), include_str!("../snap/profile/schema.json"));
        assert_eq!(super::unpack(super::RESULTS), include_str!("../report/open-schema.json"));
        let sizes = [super::PROFILES.len(), super::RESULTS.len()];
        assert!(sizes.iter().sum::<usize>() < 18_500, "{sizes:?}");
    }

    #[test]
    fn a_pair_may_be_of_pairs() {
        assert_eq!(super::unpack(&[2, b'a', b'b', 128, 128, b'-', 129, b'.']), "-abab.");
        assert_eq!(super::unpack(&[]), "");
    }
}
