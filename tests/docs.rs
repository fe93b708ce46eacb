//! What the documents name is there: every file that a page names in backticks, every link, and the heading that a link points to.

use std::fs;
use std::path::{Path, PathBuf};

/// Where a path in backticks begins that is one of this repository's.
const ROOTS: [&str; 10] =
    [".cargo/", ".ci/", ".config/", "configs/", "docs/", "hal/", "hil-tests/", "src/", "tests/", "yocto-layer/"];

#[test]
fn every_file_link_and_heading_that_a_document_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("src/ARCHITECTURE.md")];
    for directory in ["", "docs", "yocto-layer"].map(|name| root.join(name)) {
        let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    }
    assert!(pages.len() > 8, "{pages:?}");
    let findings: Vec<String> = pages.iter().flat_map(|page| check(root, page)).collect();
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

/// What one page names and what is not there.
fn check(root: &Path, page: &Path) -> Vec<String> {
    let text = without_blocks(&fs::read_to_string(page).expect("a page"));
    let beside = page.parent().expect("in a directory");
    let mut findings = Vec::new();
    for target in links(&text).filter(|target| !target.contains("://") && !target.starts_with("mailto:")) {
        let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
        let file = if path.is_empty() { page.to_path_buf() } else { beside.join(path) };
        if !file.exists() {
            findings.push(format!("{}: {target} is not there", page.display()));
        } else if !anchor.is_empty() && !headings(&file).iter().any(|heading| heading == anchor) {
            findings.push(format!("{}: {target}: there is no such heading", page.display()));
        }
    }
    let named = text.split('`').skip(1).step_by(2).map(|code| code.split_whitespace().next().unwrap_or_default());
    for path in named.filter(|path| is_path(path)) {
        if !root.join(path.trim_end_matches(':')).exists() {
            findings.push(format!("{}: `{path}` is not there", page.display()));
        }
    }
    findings
}

/// A path of this repository and not the form of one.
fn is_path(code: &str) -> bool {
    ROOTS.iter().any(|root| code.starts_with(root)) && !code.contains(['*', '{', '<', '…']) && !code.contains("NAME")
}

/// Where links point to, those with a title not among them.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

/// The page without its blocks of code: what they show is another machine's.
fn without_blocks(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The anchors of a page, made as GitHub makes them.
fn headings(file: &PathBuf) -> Vec<String> {
    let text = without_blocks(&fs::read_to_string(file).unwrap_or_default());
    let heading = |line: &str| line.starts_with('#').then(|| line.trim_start_matches('#').trim().to_lowercase());
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
    let anchor = |heading: String| heading.chars().filter(kept).collect::<String>().replace(' ', "-");
    text.lines().filter_map(heading).map(anchor).collect()
}

#[test]
fn what_is_not_there_is_found_in_every_form() {
    let dir = tempfile::tempdir().expect("a directory");
    let page = dir.path().join("page.md");
    let planted = |text: &str| {
        fs::write(&page, text).expect("written");
        check(dir.path(), &page).len()
    };
    for text in [
        "see [it](gone.md)",
        "see [it](page.md#gone)\n\n# Here",
        "see [it](#gone)",
        "it is in `src/gone.rs`",
        "`tests/gone --all` runs it",
    ] {
        assert_eq!(planted(text), 1, "{text}");
    }
    for text in [
        "see [it](page.md#what-is-here-iso-15118-2)\n\n## What is here (ISO 15118-2)",
        "see [it](https://example.com/gone)",
        "a file `devices/NAME.toml`, `src/*.rs`, `configs/devices/NAME.toml`",
        "```sh\nls `src/gone.rs` [it](gone.md)\n```",
    ] {
        assert_eq!(planted(text), 0, "{text}");
    }
}
