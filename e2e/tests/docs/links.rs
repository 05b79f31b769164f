//! Every relative link in the Markdown pages leads to a file, and every anchor to a heading.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use dexsidecar_e2e::doc_manifests;

/// The pages, as paths below the workspace's directory.
fn pages() -> Vec<String> {
    let mut pages = vec![];
    for directory in ["", "docs", "docs/consumers", ".github"] {
        let entries =
            fs::read_dir(doc_manifests::root().join(directory)).into_iter().flatten().filter_map(Result::ok);
        pages.extend(entries.map(|entry| Path::new(directory).join(entry.file_name()).display().to_string()));
    }
    pages.retain(|page| page.ends_with(".md"));
    pages.sort();
    pages
}

/// A page without its fenced blocks.
fn prose(page: &str) -> String {
    let mut code = false;
    let mut text = String::new();
    for line in doc_manifests::text(page).lines() {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        if !code && !fence {
            text += line;
        }
        text += "\n";
    }
    text
}

/// The text without what stands between backticks, where brackets are no links.
fn without_code(text: &str) -> String {
    text.split('`').step_by(2).collect()
}

/// The anchor that GitHub gives a heading: lower case, no punctuation, hyphens for spaces.
fn anchor(heading: &str) -> String {
    let mut text = heading.trim().to_lowercase();
    // A link in a heading counts by its text.
    while let Some((before, rest)) = text.split_once("](") {
        let after = rest.split_once(')').map_or("", |(_, after)| after);
        text = format!("{}{after}", before.replacen('[', "", 1));
    }
    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The anchors of a page. Equal headings are numbered.
fn anchors(page: &str) -> Vec<String> {
    let mut seen = BTreeMap::<String, usize>::new();
    let text = prose(page);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let anchor = anchor(line.trim_start_matches('#'));
            let count = seen.entry(anchor.clone()).or_default();
            *count += 1;
            if *count == 1 { anchor } else { format!("{anchor}-{}", *count - 1) }
        })
        .collect()
}

/// The targets of a page's links and pictures. Their text may be wrapped.
fn targets(page: &str) -> Vec<String> {
    let text = without_code(&prose(page));
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.split_ascii_whitespace().next().unwrap_or_default().to_owned()).collect()
}

/// A path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => assert!(normal.pop(), "{} leaves the repository", path.display()),
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

#[test]
fn every_relative_link_and_anchor_resolves() {
    let mut wrong = vec![];
    let mut seen = 0;
    for page in pages() {
        for target in targets(&page) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (file, fragment) = target.split_once('#').unwrap_or((&target, ""));
            let directory = Path::new(&page).parent().expect("a page has a directory");
            let path = if file.is_empty() { PathBuf::from(&page) } else { normal(&directory.join(file)) };
            if !doc_manifests::root().join(&path).exists() {
                wrong.push(format!("{page}: {target}: there is no such file"));
            } else if !fragment.is_empty()
                && !anchors(&path.display().to_string()).iter().any(|a| a == fragment)
            {
                wrong.push(format!("{page}: {target}: there is no such heading"));
            }
        }
    }
    assert!(seen > 50, "{seen} links");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The index leads to every page, and the index of consumers to theirs.
#[test]
fn the_index_of_docs_links_every_page() {
    let [index, consumers] = ["docs/README.md", "docs/consumers.md"].map(targets);
    for page in
        pages().iter().filter_map(|page| page.strip_prefix("docs/")).filter(|page| *page != "README.md")
    {
        let index = if page.contains('/') { &consumers } else { &index };
        assert!(index.iter().any(|target| target == page), "no index has a link to {page}");
    }
}

#[test]
fn anchors_are_those_of_github() {
    for (heading, expected) in [
        (" Quick start", "quick-start"),
        (" The pod, field by field", "the-pod-field-by-field"),
        (" form_file_unreadable", "form_file_unreadable"),
        (" `check` and its **steps**", "check-and-its-steps"),
        (" Change the cluster's issuer", "change-the-clusters-issuer"),
        (" See [Dex](dex.md) first", "see-dex-first"),
    ] {
        assert_eq!(anchor(heading), expected);
    }
}
