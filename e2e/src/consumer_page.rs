//! A page of docs/consumers: tests use the configuration files in it, and write what they saw into
//! it.
//!
//! A block whose opening fence has a path after the language is a file of the test. The lines
//! between `<!-- BEGIN name, written by a test -->` and `<!-- END name -->` are a result of the
//! test: it is compared, or written with `UPDATE=1`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::doc_manifests::{self, Block};
use crate::sidecar::assert_no_secret;

/// Only one thread at a time writes results.
static PAGES: Mutex<()> = Mutex::new(());

/// A page of docs/consumers.
#[derive(Clone, Debug)]
pub struct Page {
    path: String,
    files: Vec<(String, Block)>,
}

impl Page {
    /// The page of this consumer.
    ///
    /// # Panics
    /// If it cannot be read, or has a file whose name is not in the line above.
    #[must_use]
    pub fn of(consumer: &str) -> Self {
        Self::at(&format!("docs/consumers/{consumer}.md"))
    }

    /// The page with this path below the workspace.
    ///
    /// # Panics
    /// As [`Self::of`].
    #[must_use]
    pub fn at(path: &str) -> Self {
        let path = path.to_owned();
        let text = doc_manifests::text(&path);
        let lines: Vec<&str> = text.lines().collect();
        let mut files = vec![];
        for block in doc_manifests::fenced(&path) {
            let Some((_, file)) = block.language.split_once(' ') else { continue };
            let above = lines[..block.line - 1].iter().rev().find(|line| !line.is_empty());
            let named = above.is_some_and(|line| line.contains(&format!("{file}`")));
            assert!(named, "{path}:{}: the line above the block does not name `{file}`", block.line);
            files.push((file.to_owned(), block));
        }
        Self { path, files }
    }

    /// Writes its files, each where its name says.
    ///
    /// # Panics
    /// If one cannot be written.
    pub fn write_files(&self) {
        for (file, block) in &self.files {
            if let Some(directory) = Path::new(file).parent() {
                fs::create_dir_all(directory).unwrap_or_else(|error| panic!("{file}: {error}"));
            }
            fs::write(file, &block.text).unwrap_or_else(|error| panic!("{file}: {error}"));
        }
    }

    /// The content of one of its files.
    ///
    /// # Panics
    /// If it has no such file.
    #[must_use]
    pub fn file(&self, name: &str) -> &str {
        let found = self.files.iter().find(|(file, _)| file == name);
        found.map_or_else(|| panic!("{} has no file {name}", self.path), |(_, block)| &block.text)
    }

    /// Compares a result with the page, or writes it there with `UPDATE=1`.
    ///
    /// # Panics
    /// If the page has another result or no place for it, and if a secret is in it.
    pub fn result(&self, name: &str, text: &str) {
        assert_no_secret(text);
        let _one = PAGES.lock().unwrap_or_else(PoisonError::into_inner);
        let page = doc_manifests::text(&self.path);
        let (begin, end) =
            (format!("<!-- BEGIN {name}, written by a test -->\n"), format!("<!-- END {name} -->\n"));
        let parts = page
            .split_once(&begin)
            .and_then(|(before, rest)| rest.split_once(&end).map(|(there, after)| (before, there, after)));
        let Some((before, there, after)) = parts else {
            panic!("{} has no place for the result: {begin}{end}", self.path)
        };
        if there == text {
            return;
        }
        let update = std::env::var_os("UPDATE").is_some();
        assert!(
            update,
            "{} has another {name}: run the test with UPDATE=1\n{there}\nnow:\n{text}",
            self.path
        );
        fs::write(doc_manifests::root().join(&self.path), [before, &begin, text, &end, after].concat())
            .expect("the page can be written");
    }
}

/// The commands that a test ran, and what they printed.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    text: String,
    variables: Vec<(String, String)>,
}

impl Transcript {
    /// A transcript whose commands have these variables and no others.
    #[must_use]
    pub fn with(variables: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self { text: String::new(), variables: variables.iter().map(owned).collect() }
    }

    /// Runs a command line with sh, and records it with its standard output and error. Gives what
    /// it printed.
    ///
    /// # Panics
    /// If sh cannot be started.
    pub fn run(&mut self, line: &str) -> String {
        let printed = self.quietly(line);
        let _ = write!(self.text, "$ {line}\n{printed}");
        if !printed.is_empty() && !printed.ends_with('\n') {
            self.text.push('\n');
        }
        printed
    }

    /// The same without a record.
    ///
    /// # Panics
    /// If sh cannot be started.
    #[must_use]
    pub fn quietly(&self, line: &str) -> String {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec 2>&1\n{line}")]);
        command.env_clear().envs(self.variables.iter().map(|(name, value)| (name, value)));
        let output = command.output().expect("sh can be started");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Records what happened meanwhile.
    pub fn meanwhile(&mut self, what: &str) {
        let _ = writeln!(self.text, "# {what}");
    }

    /// The block for the page.
    #[must_use]
    pub fn block(&self) -> String {
        format!("```console\n{}```\n", self.text)
    }
}
