//! Names of signals, as an image's STOPSIGNAL gives them.

use nix::libc::{SIGRTMAX, SIGRTMIN};
use nix::sys::signal::Signal;

/// A signal's number. Real-time ones have no name of their own, and no [`Signal`].
pub type Number = i32;

/// The signal that containers get whose image names none.
pub const DEFAULT: Number = Signal::SIGTERM as Number;

/// What containerd would send for this text: a decimal number, or a name in any case, with or without "SIG"; `RTMIN+n` and
/// `RTMAX-n` up to 15 and 14 (moby/sys `signal/signal.go`, `ParseSignal`, and `signal_linux.go`, `SignalMap`, which has no
/// others). None for what containerd refuses, and for what is no signal.
pub fn parse(text: &str) -> Option<Number> {
    if let Ok(number) = text.parse::<Number>() {
        return (1..=SIGRTMAX()).contains(&number).then_some(number);
    }
    if text.len() > 16 {
        return None;
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return offset(rest, '+', 15).map(|n| SIGRTMIN() + n);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return offset(rest, '-', 14).map(|n| SIGRTMAX() - n);
    }
    let name = match name {
        "CLD" => "CHLD",
        "IOT" => "ABRT",
        "POLL" => "IO",
        other => other,
    };
    format!("SIG{name}").parse::<Signal>().ok().map(|signal| signal as Number)
}

fn offset(text: &str, sign: char, most: Number) -> Option<Number> {
    if text.is_empty() {
        return Some(0);
    }
    let digits = text.strip_prefix(sign)?;
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|n| plain && (1..=most).contains(n))
}

/// The signal's name as people know it, such as `SIGQUIT` or `SIGRTMIN+3`.
pub fn name(number: Number) -> String {
    match Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) if number == SIGRTMIN() => "SIGRTMIN".to_owned(),
        Err(_) if (SIGRTMIN()..=SIGRTMAX()).contains(&number) => format!("SIGRTMIN+{}", number - SIGRTMIN()),
        Err(_) => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_real_time_signals() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("quit", 3),
            ("SigInt", 2),
            ("WINCH", 28),
            ("9", 9),
            ("+15", 15),
            ("037", 37),
            ("SIGRTMIN", 34),
            ("RTMIN+3", 37),
            ("sigrtmin+15", 49),
            ("RTMAX", 64),
            ("SIGRTMAX-14", 50),
            ("IOT", 6),
            ("CLD", 17),
            ("POLL", 29),
            ("64", 64),
        ] {
            assert_eq!(parse(text), Some(number), "{text}");
        }
    }

    #[test]
    fn what_is_no_signal_is_none() {
        for text in [
            "",
            "0",
            "-1",
            "65",
            "SIG",
            "SIGSIGTERM",
            "TERMINATE",
            "RTMIN+16",
            "RTMIN+0",
            "RTMIN+03",
            "RTMIN-1",
            "RTMAX-15",
            "RTMAX+1",
            "RTMIN+",
            "RTMIN++1",
            " TERM",
            "TERM\n",
            "99999999999",
            "SIGTERM\0",
            "ÄÖ",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse(&"9".repeat(1 << 20)), None);
    }

    #[test]
    fn a_name_is_read_back_as_the_same_number() {
        for number in 1..=49 {
            if number != 32 && number != 33 {
                assert_eq!(parse(&name(number)), Some(number), "{}", name(number));
            }
        }
        assert_eq!((name(37).as_str(), name(3).as_str()), ("SIGRTMIN+3", "SIGQUIT"));
    }
}
