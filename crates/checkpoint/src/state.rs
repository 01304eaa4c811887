//! The `checkpoint` state file: which checkpoints a folder has, and which is the latest.
//!
//! It is the text form of the message `CheckpointState`.

use std::path::Path;

use modelark_artifact::{Error, Result, Target};
pub use modelark_proto::CheckpointState;

/// What the file is called.
pub const STATE_FILE: &str = "checkpoint";

/// Reads the text: fields in any order, strings in either kind of quotes, comments, lists.
///
/// # Errors
/// When it isn't such a text, or names no checkpoint; the message has the line.
pub fn parse(text: &str) -> Result<CheckpointState> {
    let mut parser = Parser { rest: text };
    let state = parser.state().map_err(|message| {
        let line = text.len() - parser.rest.len();
        let line = text.as_bytes().iter().take(line).filter(|&&b| b == b'\n').count() + 1;
        Error::corrupt(message)
            .at(format!("line {line}"))
            .help("a checkpoint's state is lines such as `model_checkpoint_path: \"model.ckpt-1\"`")
    })?;
    if state.model_checkpoint_path.is_empty() {
        return Err(Error::missing("the state file names no model_checkpoint_path"));
    }
    Ok(state)
}

/// Writes the text as TensorFlow does.
pub fn to_text(state: &CheckpointState) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        text.push_str(name);
        text.push_str(": ");
        text.push_str(value);
        text.push('\n');
    };
    line("model_checkpoint_path", &quoted(&state.model_checkpoint_path));
    for path in &state.all_model_checkpoint_paths {
        line("all_model_checkpoint_paths", &quoted(path));
    }
    for time in &state.all_model_checkpoint_timestamps {
        line("all_model_checkpoint_timestamps", &format!("{time:?}"));
    }
    if state.last_preserved_timestamp != 0.0 {
        line("last_preserved_timestamp", &format!("{:?}", state.last_preserved_timestamp));
    }
    text
}

/// Writes the state file at `path`, whole or not at all.
///
/// # Errors
/// When it can't be written.
pub fn write(path: &Path, state: &CheckpointState) -> Result<()> {
    let target = Target::new(path)?;
    target.write(&target.name(), to_text(state).as_bytes())?;
    target.commit()
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '"' | '\'' | '\\' => out.extend(['\\', c]),
            c if c.is_ascii_control() => out.push_str(&format!("\\{:03o}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn state(&mut self) -> Result<CheckpointState, String> {
        let mut state = CheckpointState::default();
        loop {
            self.skip(true);
            if self.rest.is_empty() {
                return Ok(state);
            }
            let name = self.word();
            if name.is_empty() {
                return Err(format!("expected a field's name, found {:?}", self.next_char()));
            }
            self.skip(false);
            self.expect(':')?;
            self.skip(false);
            let list = self.take('[');
            loop {
                self.skip(true);
                if list && self.take(']') {
                    break;
                }
                match name {
                    "model_checkpoint_path" => state.model_checkpoint_path = self.string()?,
                    "all_model_checkpoint_paths" => state.all_model_checkpoint_paths.push(self.string()?),
                    "all_model_checkpoint_timestamps" => {
                        state.all_model_checkpoint_timestamps.push(self.number()?);
                    }
                    "last_preserved_timestamp" => state.last_preserved_timestamp = self.number()?,
                    _ => return Err(format!("there is no field {name:?}")),
                }
                if !list {
                    break;
                }
            }
        }
    }

    fn next_char(&self) -> Option<char> {
        self.rest.chars().next()
    }

    /// Skips blanks and comments, and the marks that may separate fields.
    fn skip(&mut self, separators: bool) {
        loop {
            self.rest = self.rest.trim_start_matches(|c: char| {
                c.is_ascii_whitespace() || (separators && matches!(c, ',' | ';'))
            });
            if !self.rest.starts_with('#') {
                return;
            }
            self.rest = self.rest.split_once('\n').map_or("", |(_, after)| after);
        }
    }

    fn take(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        if self.take(c) { Ok(()) } else { Err(format!("expected {c:?}, found {:?}", self.next_char())) }
    }

    fn word(&mut self) -> &'a str {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-')))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn number(&mut self) -> Result<f64, String> {
        let word = self.word();
        word.trim_end_matches(['f', 'F']).parse().map_err(|_| format!("{word:?} is no number"))
    }

    /// One or more quoted strings, which join.
    fn string(&mut self) -> Result<String, String> {
        let mut bytes = Vec::new();
        let mut any = false;
        while let Some(quote @ ('"' | '\'')) = self.next_char() {
            self.take(quote);
            self.quoted(quote, &mut bytes)?;
            any = true;
            self.skip(false);
        }
        if !any {
            return Err(format!("expected a quoted path, found {:?}", self.next_char()));
        }
        String::from_utf8(bytes).map_err(|_| "a path isn't UTF-8".to_owned())
    }

    fn quoted(&mut self, quote: char, bytes: &mut Vec<u8>) -> Result<(), String> {
        loop {
            let c = self.next_char().filter(|&c| c != '\n').ok_or("a string isn't closed")?;
            self.take(c);
            if c == quote {
                return Ok(());
            }
            if c != '\\' {
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            let e = self.next_char().ok_or("a string isn't closed")?;
            self.take(e);
            match e {
                'n' => bytes.push(b'\n'),
                'r' => bytes.push(b'\r'),
                't' => bytes.push(b'\t'),
                'a' => bytes.push(7),
                'b' => bytes.push(8),
                'f' => bytes.push(12),
                'v' => bytes.push(11),
                '0'..='7' => {
                    let more = self.digits(8, 2);
                    bytes.push(u32::from_str_radix(&format!("{e}{more}"), 8).unwrap_or(0) as u8);
                }
                'x' | 'X' => {
                    let digits = self.digits(16, 2);
                    bytes.push(u8::from_str_radix(digits, 16).map_err(|_| "\\x without digits")?);
                }
                'u' | 'U' => {
                    let digits = self.digits(16, if e == 'u' { 4 } else { 8 });
                    let c = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                    let c = c.ok_or_else(|| format!("\\{e}{digits} is no character"))?;
                    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                '"' | '\'' | '\\' | '?' => bytes.push(e as u8),
                _ => return Err(format!("\\{e} is no escape")),
            }
        }
    }

    fn digits(&mut self, radix: u32, most: usize) -> &'a str {
        let n = self.rest.chars().take(most).take_while(|c| c.is_digit(radix)).count();
        let (digits, rest) = self.rest.split_at(n);
        self.rest = rest;
        digits
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_is_tensorflows() {
        let state = CheckpointState {
            model_checkpoint_path: "a\"b'c\\d\né\u{1}ü/x-1".into(),
            all_model_checkpoint_paths: vec!["x".into()],
            all_model_checkpoint_timestamps: vec![1700000000.0, 1.5, 1795247236.708528],
            last_preserved_timestamp: 1795247236.0,
        };
        let text = to_text(&state);
        assert_eq!(
            text,
            "model_checkpoint_path: \"a\\\"b\\'c\\\\d\\né\\001ü/x-1\"\nall_model_checkpoint_paths: \"x\"\n\
             all_model_checkpoint_timestamps: 1700000000.0\nall_model_checkpoint_timestamps: 1.5\n\
             all_model_checkpoint_timestamps: 1795247236.708528\nlast_preserved_timestamp: 1795247236.0\n"
        );
        assert_eq!(parse(&text).expect("own text"), state);
    }

    #[test]
    fn real_text_format_is_read() {
        let text = "# saved by hand\nmodel_checkpoint_path : 'm-' \"2\" # latest\r\n\
                    all_model_checkpoint_paths: ['m-1', 'm-\\x32'];all_model_checkpoint_timestamps: 1e3f";
        let state = parse(text).expect("text");
        assert_eq!(state.model_checkpoint_path, "m-2");
        assert_eq!(state.all_model_checkpoint_paths, ["m-1", "m-2"]);
        assert_eq!(state.all_model_checkpoint_timestamps, [1000.0]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, what) in [
            ("", "no model_checkpoint_path"),
            ("\nmodel_checkpoint_path: x", "line 2"),
            ("model_checkpoint_path: \"x", "isn't closed"),
            ("model_checkpoint: \"x\"", "no field"),
            ("model_checkpoint_path \"x\"", "expected ':'"),
            ("{}", "field's name"),
            ("all_model_checkpoint_timestamps: [1", "is no number"),
        ] {
            let e = parse(text).expect_err(text).to_string();
            assert!(e.contains(what), "{text:?}: {e}");
        }
    }

    proptest! {
        #[test]
        fn any_path_survives(path in ".+", text in ".*") {
            let state = CheckpointState { model_checkpoint_path: path, ..CheckpointState::default() };
            prop_assert_eq!(parse(&to_text(&state)).expect("own text"), state);
            let _ = parse(&text);
        }
    }
}
