//! The README is short, its picture is legible, its figures are measured, and each of its blocks is
//! executed by a test.

use std::collections::BTreeSet;
use std::process::Command;

use dexsidecar_core::settings::{self, FIELD_PREFIX, KNOWN_FIELDS, ORIGINAL, SETTINGS};
use dexsidecar_e2e::doc_manifests::{self, Executor};
use dexsidecar_e2e::prebuilt;
use dexsidecar_e2e::sidecar::program;

const README: &str = "README.md";

/// What a reader scrolls through.
const MOST_LINES: usize = 150;

/// The longest line of prose, in characters. Tables and code cannot be wrapped.
const LONGEST_LINE: usize = 120;

#[test]
fn the_readme_has_at_most_150_lines_and_none_of_its_prose_is_wider_than_120() {
    let text = doc_manifests::text(README);
    assert!(text.lines().count() <= MOST_LINES, "{} lines", text.lines().count());
    let mut code = false;
    for (number, line) in (1..).zip(text.lines()) {
        code ^= line.starts_with("```");
        let wide = line.chars().count() > LONGEST_LINE && !code && !line.starts_with('|');
        assert!(!wide, "README.md:{number} has {} characters", line.chars().count());
    }
}

#[test]
fn each_block_of_the_readme_has_an_executor() {
    for executor in [Executor::Dex, Executor::ApiServer, Executor::Node, Executor::Pod, Executor::Xtask] {
        assert!(!doc_manifests::readme(executor).is_empty());
    }
}

#[test]
fn the_commands_of_xtask_in_the_readme_exist() {
    let output = prebuilt::cargo().args(["xtask", "help"]).output().expect("cargo runs");
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && !help.is_empty(), "{output:?}");
    let explained =
        |wanted: &str| help.lines().any(|line| line.split_ascii_whitespace().next() == Some(wanted));
    let mut commands: Vec<String> = doc_manifests::commands(&doc_manifests::readme(Executor::Xtask))
        .iter()
        .map(|words| {
            assert_eq!((words.len(), &*words[0], &*words[1]), (3, "cargo", "xtask"), "{words:?}");
            words[2].clone()
        })
        .collect();
    // Those in the prose.
    let text = doc_manifests::text(README);
    commands.extend(text.split("`cargo xtask ").skip(1).filter_map(|rest| {
        rest.split_once('`').and_then(|(words, _)| words.split(' ').next()).map(str::to_owned)
    }));
    assert!(commands.len() > 2, "{commands:?}");
    for command in commands {
        assert!(explained(&command), "cargo xtask {command} is not in:\n{help}");
    }
}

/// The cells of the rows of the table in a section.
fn rows(title: &str) -> Vec<[String; 2]> {
    let text = doc_manifests::text(README);
    let section = text.split(&format!("\n## {title}\n")).nth(1).expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    rows.filter_map(|row| row.split_once("` | "))
        .map(|(name, text)| [name.to_owned(), text.to_owned()])
        .collect()
}

#[test]
fn the_commands_in_the_readme_are_those_of_the_help() {
    let output = Command::new(program()).arg("--help").output().expect("the program runs");
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<(&str, &str)> = help
        .lines()
        .filter_map(|line| line.trim_start().split_once(' '))
        .map(|(a, b)| (a, b.trim()))
        .collect();
    let commands = rows("Commands");
    assert_eq!(commands.len(), settings::Command::ALL.len(), "{commands:?}");
    for [command, purpose] in commands {
        let name = command.split(' ').next().unwrap_or_default();
        assert!(lines.contains(&(name, &purpose)), "{name}: {purpose}\n{help}");
    }
}

#[test]
fn the_settings_in_the_readme_exist() {
    let settings: Vec<String> = rows("Settings").into_iter().map(|[name, _]| name).collect();
    assert_eq!(settings.len(), 5, "{settings:?}");
    for setting in settings {
        let known = match setting.strip_prefix(FIELD_PREFIX) {
            Some(name) => ORIGINAL.iter().any(|setting| setting.name == name) || KNOWN_FIELDS.contains(&name),
            None => SETTINGS.iter().any(|known| known.variable == setting),
        };
        assert!(known, "{setting}");
    }
}

/// A row of the table in docs/footprint.md: what was measured, without its unit.
fn measured(figure: &str) -> f64 {
    let page = doc_manifests::text("docs/footprint.md");
    let row = page.lines().find_map(|line| line.strip_prefix(&format!("| {figure} | ")));
    let row = row.unwrap_or_else(|| panic!("docs/footprint.md has no row: {figure}"));
    let number = row.split([' ', '|']).next().unwrap_or_default();
    number.parse().unwrap_or_else(|_| panic!("{figure}: {row}"))
}

#[test]
fn the_figures_of_the_readme_are_those_that_were_measured() {
    let text = doc_manifests::text(README);
    let start = text.find("- **Small.**").expect("the bullet");
    let bullet = text[start..].split("\n- ").next().unwrap_or_default().replace("\n  ", " ");
    let private = measured("Private_Dirty after the first exchange over TLS, idle");
    for (what, shown) in [
        ("binary", format!("binary of {:.1} MB", measured("binary") / 1_000.0)),
        ("private memory", format!("{:.2} MB of private memory", private / 1_000.0)),
        ("threads", format!("{} thread,", measured("threads, idle"))),
        // A minute holds one or two of the polls, which are 30 s apart.
        ("wake-ups", "at most 2 wake-ups a minute".to_owned()),
        (
            "exchanges",
            format!("{} exchanges a day", measured("exchanges a day with 24-hour tokens, simulated")),
        ),
    ] {
        assert!(bullet.contains(&shown), "{what}: the README does not say {shown:?}:\n{bullet}");
    }
    assert!(measured("wake-ups in an idle minute") <= 2.0);
}

/// The relative luminance of a colour such as `#737b85` (WCAG 2.2).
fn luminance(colour: &str) -> f64 {
    let channel = |at: usize| {
        let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).expect("hexadecimal")) / 255.0;
        if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.212_6 * channel(1) + 0.715_2 * channel(3) + 0.072_2 * channel(5)
}

/// A page may show it on a light or on a dark background, whatever the reader's system prefers.
#[test]
fn the_picture_is_xml_and_legible_on_light_and_on_dark() {
    let text = doc_manifests::text("docs/data-flow.svg");
    let picture = roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{error}"));
    let root = picture.root_element();
    assert_eq!(root.tag_name().name(), "svg");
    for child in ["title", "desc"] {
        let spoken = root.children().find(|node| node.has_tag_name(("http://www.w3.org/2000/svg", child)));
        assert!(spoken.and_then(|node| node.text()).is_some_and(|text| !text.trim().is_empty()), "{child}");
    }
    let hexadecimal = |word: &&str| word.bytes().all(|digit| digit.is_ascii_hexdigit());
    let words = text.split('#').skip(1).filter_map(|rest| rest.get(..6)).filter(hexadecimal);
    let colours: BTreeSet<String> = words.map(|word| format!("#{word}")).collect();
    assert!(!colours.is_empty());
    for colour in colours {
        for background in ["#ffffff", "#0d1117"] {
            let (one, other) = (luminance(&colour) + 0.05, luminance(background) + 0.05);
            let contrast = one.max(other) / one.min(other);
            assert!(contrast >= 4.0, "{colour} on {background}: {contrast:.2}");
        }
    }
}
