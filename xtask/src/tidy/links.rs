//! Links between the files of the tree must lead somewhere.

use std::path::Path;

use super::{Findings, Source};

/// Adds the links of a markdown file that name a file which isn't there.
pub fn check(source: &Source, root: &Path, findings: &mut Findings) {
    let page = root.join(&source.path);
    let folder = page.parent().unwrap_or(root);
    let mut fenced = false;
    for (number, line) in (1..).zip(source.text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for target in targets(&without_code(line)) {
            let path = target.split('#').next().unwrap_or_default();
            let elsewhere = target.contains("://") || target.starts_with("mailto:");
            if !elsewhere && !path.is_empty() && !folder.join(path).exists() {
                findings.push(source.finding(number, &format!("the link to {target} leads nowhere")));
            }
        }
    }
}

/// What the links in a line point at: `[text](target)`, `![text](target "title")`, `[name]: target`.
fn targets(line: &str) -> Vec<&str> {
    let inline = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let reference =
        line.strip_prefix('[').and_then(|rest| rest.split_once("]:")).map(|(_, target)| target.trim());
    inline
        .chain(reference)
        .filter_map(|target| target.split_whitespace().next())
        .map(|target| target.trim_start_matches('<').trim_end_matches('>'))
        .collect()
}

/// The line without what stands between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_as_markdown_reads_them() {
        let line = without_code("See [a](A.md#top), ![b](img/b.png \"B\") and `[c](C.md)`.");
        assert_eq!(targets(&line), ["A.md#top", "img/b.png"]);
        assert_eq!(targets("[a]: <docs/A.md> \"title\""), ["docs/A.md"]);
        assert_eq!(targets("a [b] (c) [d][e]"), [""; 0]);
    }

    #[test]
    fn only_links_to_missing_files_are_found() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("docs")).expect("a folder");
        std::fs::write(folder.path().join("README.md"), "").expect("a file");
        let text = "[up](../README.md) [web](https://example.org) [here](#x)\n\n[gone](B.md)\n\
                    ```\n[quoted](C.md)\n```\n";
        let source = Source { path: "docs/A.md".to_owned(), text: text.to_owned() };
        let mut findings = Vec::new();
        check(&source, folder.path(), &mut findings);
        assert_eq!(findings, ["docs/A.md:3: the link to B.md leads nowhere"]);
    }
}
