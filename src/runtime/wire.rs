//! The few messages of a shim's task service, as protobuf puts them on the wire (containerd `api/runtime/task/v3/shim.proto`;
//! the same fields in v2). Texts, numbers, and a frame of both: generated code for that is twelve kilobytes more.

/// A message that is put together field by field, in the order of their numbers. Empty fields are left out.
#[derive(Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// A message whose first field is a container's ID.
    pub fn of(id: &str) -> Message {
        Message::default().text(1, id)
    }

    /// A text, or bytes.
    pub fn text(mut self, field: u8, text: &str) -> Message {
        if !text.is_empty() {
            self.0.push(field << 3 | 2);
            self.varint(text.len() as u64);
            self.0.extend_from_slice(text.as_bytes());
        }
        self
    }

    /// A message within.
    pub fn message(mut self, field: u8, message: &Message) -> Message {
        self.0.push(field << 3 | 2);
        self.varint(message.0.len() as u64);
        self.0.extend_from_slice(&message.0);
        self
    }

    /// A number, or a yes as 1.
    pub fn number(mut self, field: u8, number: u32) -> Message {
        if number > 0 {
            self.0.push(field << 3);
            self.varint(u64::from(number));
        }
        self
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// What goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.clone()
    }
}

/// The number in the first field of an answer; zero is left out. None for what is no message.
pub fn first_number(mut answer: &[u8]) -> Option<u32> {
    let mut found = 0;
    while !answer.is_empty() {
        let key = varint(&mut answer)?;
        let length = match key & 7 {
            0 => {
                let number = varint(&mut answer)?;
                if key >> 3 == 1 {
                    found = u32::try_from(number).ok()?;
                }
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut answer)?).ok()?,
            5 => 4,
            _ => return None,
        };
        answer = answer.get(length..)?;
    }
    Some(found)
}

fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = from.split_first()?;
        *from = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use containerd_shim_protos::api::{ExecProcessRequest, KillRequest, WaitResponse};
    use protobuf::well_known_types::any::Any;
    use protobuf::{Message as _, MessageField};

    #[test]
    fn as_generated_code_writes_and_reads_it() {
        let kill = KillRequest { id: "a".repeat(300), signal: 300, all: true, ..Default::default() };
        let ours = Message::of(&"a".repeat(300)).number(3, 300).number(4, 1);
        assert_eq!(ours.bytes(), kill.write_to_bytes().unwrap());
        let spec = Any { type_url: "t".into(), value: "{}".into(), ..Default::default() };
        let exec = ExecProcessRequest {
            id: "a".into(),
            exec_id: "b".into(),
            stderr: "c".into(),
            spec: MessageField::some(spec),
            ..Default::default()
        };
        let spec = Message::default().text(1, "t").text(2, "{}");
        let ours = Message::of("a").text(2, "b").text(5, "").text(6, "c").message(7, &spec);
        assert_eq!(ours.bytes(), exec.write_to_bytes().unwrap());
        for status in [0, 1, 137, u32::MAX] {
            let time = protobuf::well_known_types::timestamp::Timestamp { seconds: 7, ..Default::default() };
            let exited_at = MessageField::some(time);
            let answer = WaitResponse { exit_status: status, exited_at, ..Default::default() };
            assert_eq!(first_number(&answer.write_to_bytes().unwrap()), Some(status));
        }
        for nonsense in
            [&b"\x08"[..], b"\x0a\x05a", b"\xff", b"\x0b", &[0x80; 12], b"\x08\xff\xff\xff\xff\x7f"]
        {
            assert_eq!(first_number(nonsense), None, "{nonsense:?}");
        }
    }
}
