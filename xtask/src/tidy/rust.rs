//! Rules for Rust code that lints don't express per folder.

use super::{Findings, Source};

/// Where `unsafe` may stand: the kernels, the memory map, and a hint to the system that has no safe call.
const UNSAFE: &[&str] =
    &["crates/tensor/src/", "crates/artifact/src/files.rs", "crates/artifact/src/output.rs"];

/// Where printing is the purpose. Elsewhere it belongs to the caller.
const PRINTING: &[&str] = &["crates/cli/", "xtask/", "tests/", "/examples/", "/benches/", "/tests/"];

const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!"];
const PRINTS: &[&str] = &["print!", "println!", "eprint!", "eprintln!"];

/// Adds what is wrong with the code of a file. Comments and literals don't count.
pub fn check(source: &Source, findings: &mut Findings) {
    let may_be_unsafe = UNSAFE.iter().any(|place| source.path.starts_with(place));
    let may_print = PRINTING.iter().any(|place| match place.strip_prefix('/') {
        Some(_) => source.path.contains(place),
        None => source.path.starts_with(place),
    });
    for (number, line) in (1..).zip(code(&source.text).lines()) {
        let mut found = |message: &str| findings.push(source.finding(number, message));
        for name in UNFINISHED.iter().filter(|name| has_word(line, name)) {
            found(&format!("{name} in committed code"));
        }
        if !may_print {
            for name in PRINTS.iter().filter(|name| has_word(line, name)) {
                found(&format!("{name} in a library"));
            }
        }
        if !may_be_unsafe && has_word(line, "unsafe") {
            found("unsafe outside the kernels and the files");
        }
    }
}

fn has_word(line: &str, word: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(in_word) && (word.ends_with('!') || !after.is_some_and(in_word))
    })
}

/// The text with comments and literals blanked out, line by line where it was.
fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    let mut after_name = false;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => string(rest),
            '\'' => character(rest),
            'r' | 'b' | 'c' if !after_name => prefixed_string(rest),
            _ => 0,
        };
        if length == 0 {
            code.push(first);
            after_name = first.is_alphanumeric() || first == '_';
            rest = &rest[first.len_utf8()..];
        } else {
            let (skipped, next) = rest.split_at(length);
            code.extend(skipped.chars().map(|c| if c == '\n' { c } else { ' ' }));
            after_name = false;
            rest = next;
        }
    }
    code
}

// Each of these takes text that may begin with what it is named after and gives the length of it, 0 if it
// is something else. What is never closed lasts to the end.

fn block_comment(text: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A character, as opposed to a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let from = at + escaped.len_utf8();
            text[from..].find('\'').map_or(text.len(), |end| from + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

/// `r"…"`, `br#"…"#`, `b"…"`, `c"…"`, `b'…'`.
fn prefixed_string(text: &str) -> usize {
    let letters = text.find(|c| !matches!(c, 'r' | 'b' | 'c')).unwrap_or(text.len());
    let (prefix, rest) = text.split_at(letters);
    if prefix.contains('r') {
        let hashes = rest.find(|c| c != '#').unwrap_or(rest.len());
        if !rest[hashes..].starts_with('"') {
            return 0;
        }
        let close = format!("\"{}", &rest[..hashes]);
        let body = letters + hashes + 1;
        text[body..].find(&close).map_or(text.len(), |end| body + end + close.len())
    } else if rest.starts_with('"') {
        letters + string(rest)
    } else if rest.starts_with('\'') {
        match character(rest) {
            0 => 0,
            length => letters + length,
        }
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Findings {
        let mut findings = Vec::new();
        check(&Source { path: path.to_owned(), text: text.to_owned() }, &mut findings);
        findings
    }

    #[test]
    fn comments_and_literals_are_blanked_in_place() {
        for (text, expected) in [
            ("a // unsafe\nb", "a b"),
            ("a /* x /* y */\n */ b", "a b"),
            (r#"f("un\"safe", 'x')"#, "f( , )"),
            (r##"f(r#"a"b"#, br"c")"##, "f( , )"),
            (r"fn f<'a>(x: &'a str) -> '\'' b'{' c", "fn f<'a>(x: &'a str) -> c"),
            ("for r in crab", "for r in crab"),
            ("a \"never closed\nx", "a"),
        ] {
            let code = code(text);
            assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), expected, "{text}");
            let widths = |text: &str| text.lines().map(|line| line.chars().count()).collect::<Vec<_>>();
            assert_eq!(widths(&code), widths(text), "{text}");
        }
    }

    #[test]
    fn each_rule_finds_its_word_and_only_there() {
        assert_eq!(
            findings("crates/nn/src/a.rs", "\nfn f() { todo!() }\nunsafe { println!() }\n"),
            [
                "crates/nn/src/a.rs:2: todo! in committed code",
                "crates/nn/src/a.rs:3: println! in a library",
                "crates/nn/src/a.rs:3: unsafe outside the kernels and the files",
            ]
        );
        let fine = "#![forbid(unsafe_code)]\n// todo!() unsafe\nlet eprintln = \"dbg!\";\n";
        assert_eq!(findings("crates/nn/src/a.rs", fine), Findings::new());
        assert_eq!(findings("crates/tensor/src/kernels/a.rs", "unsafe {}\n"), Findings::new());
        assert_eq!(findings("crates/nn/examples/a.rs", "println!()\n"), Findings::new());
    }
}
