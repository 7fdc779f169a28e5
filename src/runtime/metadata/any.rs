//! `google.protobuf.Any`, the frame around whatever containerd stores: the name of a type, and its bytes.

/// The type's name and the bytes, borrowed: a value may be large, and is read where it lies.
pub fn parse(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (mut name, mut value) = (&[][..], &[][..]);
    let mut rest = bytes;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        // The lower three bits are how the field is written (protobuf.dev, "Encoding"): none has what is not here.
        match (tag >> 3, tag & 7) {
            (1, 2) => name = sized(&mut rest)?,
            (2, 2) => value = sized(&mut rest)?,
            (_, 2) => drop(sized(&mut rest)?),
            (_, 0) => drop(varint(&mut rest)?),
            (_, 1) => rest = rest.get(8..)?,
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some((std::str::from_utf8(name).ok()?, value))
}

fn sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint(rest)?).ok()?;
    let (field, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(field)
}

pub(super) fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// The same, for tests to be read.
#[cfg(test)]
pub fn write(name: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (tag, field) in [(10, name.as_bytes()), (18, value)] {
        bytes.push(tag);
        let mut length = field.len();
        while length >= 0x80 {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend_from_slice(field);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_the_protobuf_crate_writes_it() {
        use protobuf::Message;
        for size in [0, 1, 127, 128, 300, 70_000] {
            let any = protobuf::well_known_types::any::Any {
                type_url: "a/b.C".into(),
                value: vec![7; size],
                ..Default::default()
            };
            let bytes = any.write_to_bytes().unwrap();
            let (name, value) = parse(&bytes).unwrap();
            assert_eq!((name, value), ("a/b.C", any.value.as_slice()));
            assert_eq!(parse(&write("a/b.C", &any.value)), Some((name, value)));
            for cut in 1..bytes.len().min(40) {
                let cut = parse(&bytes[..bytes.len() - cut]);
                assert!(cut.is_none_or(|(_, value)| value.is_empty()), "{size}");
            }
        }
    }

    #[test]
    fn other_fields_are_passed_over_and_nonsense_is_none() {
        assert_eq!(
            parse(b"\x18\x05\x0a\x01x\x21\0\0\0\0\0\0\0\0\x1d\0\0\0\0\x22\x01z"),
            Some(("x", &b""[..]))
        );
        for bad in [
            &b"\x0a\x05x"[..],
            b"\x0b",
            b"\x0a\x01\xff",
            &[0xff; 11],
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
