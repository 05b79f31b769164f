//! A YAML document as a tree in which each node knows its place.
//!
//! What makes a document mean something else than it seems to is refused: duplicate keys, anchors,
//! aliases, tags, merge keys and further documents. The size, the depth and the number of elements
//! are bounded, so that no document takes long to read.

use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use super::Problem;
use crate::failure::printable;
use crate::limits::{
    DEEPEST_CONFIG, LARGEST_CONFIG, LONGEST_QUOTED_WORD, MAX_CONFIG_ELEMENTS, MAX_CONFIG_NODES, MAX_PROBLEMS,
};
use crate::secret::Secret;

/// A place in a configuration file. Both numbers count from 1, columns in characters.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value with its place.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: Place,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    /// One value as text. A plain `null` or `~` is empty, as nothing is.
    Text(Secret),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// What has been reported already.
    Invalid,
}

/// A key with its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Place,
    pub(super) node: Node,
}

/// The keys and indices that lead to a node: `tokens[1].outputs[0].path`.
#[derive(Clone, Copy)]
pub(super) enum Trail<'a> {
    Root,
    Key(&'a Self, &'a str),
    Index(&'a Self, usize),
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Self::Root, key) => f.write_str(shown(key)),
            Self::Key(parent, key) => write!(f, "{parent}.{}", shown(key)),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// A key as it is repeated in a message. A line without its colon is a key too, and may hold a
/// secret; so a key that does not look like a name is not repeated.
fn shown(key: &str) -> &str {
    let in_name = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let is_name = (1..=LONGEST_QUOTED_WORD).contains(&key.len()) && key.bytes().all(in_name);
    // The key of a merge, which is refused.
    if is_name || key == "<<" { key } else { "(a key)" }
}

/// A document as it was read.
pub(super) struct Document {
    /// Its tree. Without one the document cannot be read at all, and the last problem has the
    /// reason.
    pub(super) tree: Option<Node>,
    /// The problems with what is refused in it.
    pub(super) problems: Vec<Problem>,
    /// The number of further problems.
    pub(super) more: usize,
}

/// Reads a document.
pub(super) fn read(content: &[u8]) -> Document {
    let (mut problems, mut more) = (vec![], 0);
    let tree = text(content).and_then(|text| {
        let parser = Parser::new_from_str(text);
        let mut builder = Builder { parser, nodes: 0, problems: &mut problems, more: &mut more };
        builder.document()
    });
    let tree = tree.map_err(|stopped| problems.push(stopped)).ok();
    Document { tree, problems, more }
}

fn text(content: &[u8]) -> Result<&str, Problem> {
    let start = Place { line: 1, column: 1 };
    if content.len() > LARGEST_CONFIG {
        return Err(problem(start, &Trail::Root, "is larger than 1 MiB", "split it or shorten it"));
    }
    let valid = std::str::from_utf8(content).map_err(|error| {
        let before = &content[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        problem(Place { line, column: 1 }, &Trail::Root, "is not UTF-8", "save it as UTF-8")
    })?;
    Ok(valid.strip_prefix('\u{feff}').unwrap_or(valid))
}

pub(super) fn problem(
    at: Place,
    trail: &Trail<'_>,
    what: impl Into<String>,
    fix: impl Into<String>,
) -> Problem {
    let setting = match trail {
        Trail::Root => "the file".to_owned(),
        _ => trail.to_string(),
    };
    Problem { setting, what: what.into(), fix: fix.into(), place: Some(at), file: None }
}

struct Builder<'t, 'p> {
    parser: Parser<'t, StrInput<'t>>,
    /// The keys and values so far.
    nodes: usize,
    problems: &'p mut Vec<Problem>,
    more: &'p mut usize,
}

fn place(span: Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
}

impl<'t> Builder<'t, '_> {
    fn report(&mut self, at: Place, trail: &Trail<'_>, what: &str, fix: &str) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem(at, trail, what, fix));
        } else {
            *self.more += 1;
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, Place), Problem> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, place(span))),
            Some(Err(error)) => {
                let at = Place { line: error.marker().line(), column: error.marker().col() + 1 };
                let what = format!("is not YAML: {}", printable(error.info().to_owned()));
                Err(problem(at, &Trail::Root, what, "correct it; what follows it has not been read"))
            }
            None => Ok((Event::StreamEnd, Place::default())),
        }
    }

    fn document(&mut self) -> Result<Node, Problem> {
        loop {
            let (event, at) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
                Event::StreamEnd | Event::DocumentEnd => {
                    let at = at.max(Place { line: 1, column: 1 });
                    return Err(problem(at, &Trail::Root, "is empty", "write at least version and tokens"));
                }
                event => {
                    let root = self.node(event, at, &Trail::Root, 0)?;
                    self.end()?;
                    return Ok(root);
                }
            }
        }
    }

    /// Only the end of the document may follow.
    fn end(&mut self) -> Result<(), Problem> {
        loop {
            let (event, at) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(()),
                Event::DocumentEnd | Event::Nothing => {}
                _ => {
                    let fix = "write one document a file, with all tokens in it";
                    return Err(problem(at, &Trail::Root, "has a second document", fix));
                }
            }
        }
    }

    fn node(
        &mut self,
        event: Event<'t>,
        at: Place,
        trail: &Trail<'_>,
        depth: usize,
    ) -> Result<Node, Problem> {
        if depth > DEEPEST_CONFIG {
            let fix = "see docs/configuration.md for the keys and their depth";
            return Err(problem(at, trail, format!("is nested deeper than {DEEPEST_CONFIG}"), fix));
        }
        self.nodes += 1;
        if self.nodes > MAX_CONFIG_NODES {
            let what = format!("has more than {MAX_CONFIG_NODES} keys and values");
            return Err(problem(at, &Trail::Root, what, "remove some; what follows has not been read"));
        }
        let (anchor, tagged) = match &event {
            Event::Scalar(_, _, anchor, tag)
            | Event::SequenceStart(anchor, tag)
            | Event::MappingStart(anchor, tag) => (*anchor, tag.is_some()),
            _ => (0, false),
        };
        if anchor > 0 {
            self.report(at, trail, "has an anchor (&)", "remove it; defaults holds what tokens share");
        }
        if tagged {
            self.report(at, trail, "has a tag (!)", "remove the tag");
        }
        let value = match event {
            Event::Scalar(text, style, ..) => {
                let null = style == ScalarStyle::Plain && ["null", "~"].contains(&&*text);
                Value::Text(Secret::new(if null { String::new() } else { text.into_owned() }))
            }
            Event::SequenceStart(..) => self.list(trail, depth)?,
            Event::MappingStart(..) => self.map(trail, depth)?,
            Event::Alias(_) => {
                self.report(
                    at,
                    trail,
                    "is an alias (*)",
                    "write the value itself; defaults holds what tokens share",
                );
                Value::Invalid
            }
            // The parser has none of them here.
            _ => Value::Invalid,
        };
        Ok(Node { at, value })
    }

    fn list(&mut self, trail: &Trail<'_>, depth: usize) -> Result<Value, Problem> {
        let mut nodes = vec![];
        loop {
            let (event, at) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(Value::List(nodes));
            }
            bounded(nodes.len(), at, trail)?;
            let node = self.node(event, at, &Trail::Index(trail, nodes.len()), depth + 1)?;
            nodes.push(node);
        }
    }

    fn map(&mut self, trail: &Trail<'_>, depth: usize) -> Result<Value, Problem> {
        let mut entries: Vec<Entry> = vec![];
        loop {
            let (event, at) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Value::Map(entries));
            }
            bounded(entries.len(), at, trail)?;
            // A key is read as a node of its own, so that its anchor or tag is refused too.
            let key = match self.node(event, at, trail, depth + 1)?.value {
                Value::Text(key) => Some(key.expose().to_owned()),
                _ => None,
            };
            let (event, value_at) = self.next()?;
            let Some(key) = key else {
                self.report(at, trail, "has a key that is no text", "use the keys of docs/configuration.md");
                self.node(event, value_at, trail, depth + 1)?;
                continue;
            };
            let trail = Trail::Key(trail, &key);
            let node = self.node(event, value_at, &trail, depth + 1)?;
            if key == "<<" {
                self.report(at, &trail, "is a merge key", "remove it; defaults holds what tokens share");
            } else if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                let what = format!("is a duplicate of the key in line {}", first.at.line);
                self.report(at, &trail, &what, "remove one of them");
            } else {
                entries.push(Entry { key, at, node });
            }
        }
    }
}

/// Keys are compared with all others of their map.
fn bounded(elements: usize, at: Place, trail: &Trail<'_>) -> Result<(), Problem> {
    if elements < MAX_CONFIG_ELEMENTS {
        return Ok(());
    }
    let what = format!("has more than {MAX_CONFIG_ELEMENTS} elements");
    Err(problem(at, trail, what, "remove some; what follows has not been read"))
}
