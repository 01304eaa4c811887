//! What goes to the terminal: text with colours where somebody looks, tables, JSON.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use modelark::{Error, Result};
use serde_json::Value;

/// How a piece of text is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Heading,
    Dim,
    Good,
    Bad,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Style::Heading => "1",
            Style::Dim => "2",
            Style::Good => "32",
            Style::Bad => "1;31",
        }
    }
}

/// Whether to colour what goes to a stream: a terminal, and nobody who asked for none.
fn coloured(is_terminal: bool) -> bool {
    is_terminal
        && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

fn paint(text: impl Display, style: Style, colours: bool) -> String {
    if colours { format!("\x1b[{}m{text}\x1b[0m", style.code()) } else { text.to_string() }
}

/// Text for standard output, put together first and written at once.
#[derive(Debug)]
pub(crate) struct Text {
    text: String,
    colours: bool,
}

impl Text {
    pub(crate) fn new() -> Self {
        Text { text: String::new(), colours: coloured(io::stdout().is_terminal()) }
    }

    pub(crate) fn paint(&self, text: impl Display, style: Style) -> String {
        paint(text, style, self.colours)
    }

    pub(crate) fn line(&mut self, line: impl Display) {
        self.text.push_str(&line.to_string());
        self.text.push('\n');
    }

    /// A heading, with an empty line before it unless it is the first.
    pub(crate) fn heading(&mut self, heading: impl Display) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let heading = self.paint(heading, Style::Heading);
        self.line(heading);
    }

    /// Rows under a heading row, each column as wide as its widest cell; columns named in `right` are flush right.
    pub(crate) fn table(&mut self, heading: &[&str], right: &[usize], rows: &[Vec<String>]) {
        let count = |s: &str| s.chars().count();
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|r| r.get(column)).map(|c| count(c));
            cells.chain(heading.get(column).map(|h| count(h))).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heading.len()).map(width).collect();
        let render = |cells: &[String]| {
            let padded = cells.iter().zip(&widths).enumerate().map(|(i, (cell, width))| {
                let fill = " ".repeat(width.saturating_sub(count(cell)));
                if right.contains(&i) { fill + cell } else { cell.clone() + &fill }
            });
            format!("  {}", padded.collect::<Vec<_>>().join("  ").trim_end())
        };
        let heading: Vec<String> = heading.iter().map(ToString::to_string).collect();
        let line = self.paint(render(&heading), Style::Dim);
        self.line(line);
        for row in rows {
            self.line(render(row));
        }
    }

    /// Writes it out. A reader that stops reading, such as `head`, is no error.
    pub(crate) fn print(self) -> Result<()> {
        write_out(self.text.as_bytes())
    }
}

/// Prints a value as JSON.
pub(crate) fn json(value: &Value) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(|e| Error::invalid(e.to_string()))?;
    text.push('\n');
    write_out(text.as_bytes())
}

pub(crate) fn write_out(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}

/// Says what went wrong, on one line of standard error.
pub(crate) fn error(e: &Error) {
    let label = paint("error:", Style::Bad, coloured(io::stderr().is_terminal()));
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "{label} {e}");
}

/// A number of bytes as people say it.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A number with commas between its thousands.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `one thing`, `2 things`.
pub(crate) fn count(n: usize, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{} {one}s", thousands(n as u64)) }
}

/// A shape as Python prints it: `(2, 3)`, `(4,)`, `()`.
pub(crate) fn shape(shape: &[usize]) -> String {
    modelark::PartialShape::from(shape).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            (bytes(900), bytes(1536), bytes(5 << 30)),
            ("900 B".into(), "1.5 KiB".into(), "5.0 GiB".into())
        );
        assert_eq!(
            (thousands(7), thousands(1234), thousands(1234567)),
            ("7".into(), "1,234".into(), "1,234,567".into())
        );
        assert_eq!((count(1, "layer"), count(2000, "layer")), ("1 layer".into(), "2,000 layers".into()));
        assert_eq!((shape(&[]), shape(&[3]), shape(&[2, 3])), ("()".into(), "(3,)".into(), "(2, 3)".into()));
    }

    #[test]
    fn columns_line_up() {
        let mut text = Text { text: String::new(), colours: false };
        text.table(&["name", "n"], &[1], &[vec!["a".into(), "10".into()], vec!["longer".into(), "5".into()]]);
        assert_eq!(text.text, "  name     n\n  a       10\n  longer   5\n");
    }
}
