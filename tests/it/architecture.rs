//! How the source is laid out: who may import whom, and how long a file may be.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The modules from top to bottom: a module imports only from layers below its own.
const LAYERS: &[&[&str]] = &[
    &["cli"],
    &["demo", "explain"],
    &["server", "print"],
    &["admin", "serve"],
    &["passage", "exchange"],
    &["request"],
    &["downstream", "gateway"],
    &["audit", "descriptors", "telemetry"],
    &["unserved", "upstream"],
    &["alarm", "config", "outcome"],
    &["policy", "quota_store", "tls"],
    &["files", "lookup", "quota", "wire"],
    &["reason", "stand_in"],
    &["operation", "php"],
];

/// What judges and what reads bytes knows nothing of these, so that it can be tested and fuzzed without them.
const PURE: &[&str] = &["policy", "wire", "php", "reason", "operation"];
const IMPURE: &[&str] = &[
    "pingora",
    "tokio",
    "tracing",
    "prometheus",
    "std::fs",
    "std::net::Tcp",
    "Instant::now",
    "SystemTime::now",
];

const MAX_LINES: usize = 400;

/// Names that say nothing of what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "common", "types", "prelude", "misc"];

#[test]
fn imports_run_one_way() {
    let files = SourceFile::all();
    let mut wrong = Vec::new();
    for file in &files {
        let Some(layer) = layer_of(file.top()) else {
            wrong.push(format!(
                "{}: the module `{}` has no layer; place it in LAYERS",
                file.path(),
                file.top()
            ));
            continue;
        };
        for other in file.imports(&files).into_iter().filter(|other| other.top() != file.top()) {
            if layer_of(other.top()).is_some_and(|below| below <= layer) {
                wrong.push(format!(
                    "{} imports {}, which is not in a layer below: move down what it needs, or hand it in",
                    file.path(),
                    other.path()
                ));
            }
        }
    }
    for name in LAYERS.iter().copied().flatten() {
        if !files.iter().any(|file| file.top() == *name) {
            wrong.push(format!("LAYERS names `{name}`, which is no module: take it out"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let files = SourceFile::all();
    let mut imports = BTreeMap::new();
    for file in &files {
        // A folder's `mod.rs` and the files below it are one thing in several files.
        let others = file.imports(&files).into_iter().filter(|other| !file.is_family_of(other));
        imports.insert(file.path(), others.map(SourceFile::path).collect::<Vec<_>>());
    }
    let mut done = BTreeSet::new();
    for file in imports.keys() {
        if let Some(circle) = circle_from(file, &imports, &mut Vec::new(), &mut done) {
            panic!("{}: move what both ends need into a file of its own", circle.join(" imports "));
        }
    }
}

#[test]
fn what_judges_and_what_reads_bytes_is_pure() {
    let mut wrong = Vec::new();
    for file in SourceFile::all().iter().filter(|file| PURE.contains(&file.top())) {
        for path in &file.foreign {
            if IMPURE.iter().any(|impure| path.starts_with(impure)) {
                let module = file.top();
                wrong.push(format!(
                    "{} uses `{path}`: `{module}` only computes; hand the value in",
                    file.path()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_is_short_and_opens_with_a_sentence() {
    let mut wrong = Vec::new();
    for path in rust_files("src").into_iter().chain(rust_files("tests")) {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        let shown = path.strip_prefix(root()).unwrap().display().to_string();
        if lines > MAX_LINES {
            wrong.push(format!("{shown} has {lines} lines, {MAX_LINES} are allowed: split it by meaning"));
        }
        let first = text.lines().next().unwrap_or_default();
        if shown.starts_with("src/") && !(first.starts_with("//! ") && first.len() > 12) {
            wrong.push(format!("{shown} does not open with a `//!` sentence: say what it is for"));
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        let folder = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
        if [name, folder].iter().any(|name| EMPTY_NAMES.contains(name)) {
            wrong.push(format!("{shown}: the name says nothing; name it after what is inside"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn imports_are_found_wherever_they_are_written() {
    let text = r##"
        //! crate::in_a_comment
        use crate::{a, b::{self, c as d, e::*}, f::g};
        use super::{h, super::i};
        use std::{fmt, net::{self, TcpStream}};
        /* crate::in_a_block */
        fn f<'a>(x: crate::inline::Path) -> char { let s = "crate::text"; let r = r#"crate::raw"#; '"' }
        pub(crate) fn g() { tokio::spawn(super::sibling::run()) }
        #[cfg(test)]
        mod tests { use crate::only_in_tests::T; }
        use crate::last;
    "##;
    let (own, foreign) = paths_of(text, &["x".into(), "y".into()]);
    let own: Vec<_> = own.iter().map(|path| path.join("::")).collect();
    assert_eq!(
        own,
        ["a", "b", "b::c", "b::e", "f::g", "x::h", "i", "inline::Path", "x::sibling::run", "last"]
    );
    assert!(foreign.contains("std::net::TcpStream") && foreign.contains("tokio::spawn"), "{foreign:?}");
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Follows imports from a file; the files of a circle, its first one at both ends.
fn circle_from(
    file: &str,
    imports: &BTreeMap<String, Vec<String>>,
    way: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if let Some(start) = way.iter().position(|earlier| earlier == file) {
        return Some(way[start..].iter().cloned().chain([file.into()]).collect());
    }
    if !done.insert(file.into()) {
        return None;
    }
    way.push(file.into());
    let circle = imports[file].iter().find_map(|next| circle_from(next, imports, way, done));
    way.pop();
    circle
}

/// A file of the library, and what its code names, tests left out.
struct SourceFile {
    /// The path of its module, without `crate`.
    module: Vec<String>,
    path: PathBuf,
    /// The paths into this crate, without `crate`.
    own: BTreeSet<Vec<String>>,
    /// The paths that begin with another name.
    foreign: BTreeSet<String>,
}

impl SourceFile {
    /// Every file of the library but its root, which only lists the modules.
    fn all() -> Vec<Self> {
        let is_tests = |path: &PathBuf| path.iter().any(|part| part == "tests" || part == "tests.rs");
        let is_root = |path: &PathBuf| path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
        let paths = rust_files("src").into_iter();
        let files: Vec<_> = paths.filter(|path| !is_tests(path) && !is_root(path)).map(Self::read).collect();
        assert!(files.len() > 20, "the source is not where it was looked for");
        files
    }

    fn read(path: PathBuf) -> Self {
        let relative = path.strip_prefix(root().join("src")).unwrap().with_extension("");
        let mut module: Vec<String> = relative.iter().map(|part| part.to_str().unwrap().into()).collect();
        if module.last().is_some_and(|name| name == "mod") {
            module.pop();
        }
        let (own, foreign) = paths_of(&fs::read_to_string(&path).unwrap(), &module);
        Self { module, path, own: own.into_iter().collect(), foreign }
    }

    fn path(&self) -> String {
        self.path.strip_prefix(root()).unwrap().display().to_string()
    }

    fn top(&self) -> &str {
        &self.module[0]
    }

    fn is_family_of(&self, other: &Self) -> bool {
        self.module.starts_with(&other.module) || other.module.starts_with(&self.module)
    }

    /// The other files that its paths lead into.
    fn imports<'a>(&self, files: &'a [Self]) -> Vec<&'a Self> {
        let leads_to = |path: &Vec<String>| {
            let on_the_way = files.iter().filter(|file| path.starts_with(&file.module));
            on_the_way.max_by_key(|file| file.module.len())
        };
        let mut found: Vec<_> = self.own.iter().filter_map(leads_to).collect();
        found.retain(|file| file.module != self.module);
        found.sort_by_key(|file| &file.module);
        found.dedup_by_key(|file| &file.module);
        found
    }
}

/// The paths in a file's code: into this crate, as segments from its root, and those that begin elsewhere.
fn paths_of(text: &str, module: &[String]) -> (Vec<Vec<String>>, BTreeSet<String>) {
    let tokens = without_tests(tokens_of(text));
    let (mut own, mut foreign) = (Vec::new(), BTreeSet::new());
    let mut at = 0;
    while at < tokens.len() {
        let begins = is_name(&tokens[at]) && tokens.get(at + 1).is_some_and(|next| next == "::");
        let goes_on = at > 0 && tokens[at - 1] == "::";
        if !begins || goes_on {
            at += 1;
            continue;
        }
        let mut paths = Vec::new();
        at = read_tree(&tokens, at, &mut Vec::new(), &mut paths);
        for path in paths {
            match path[0].as_str() {
                "crate" => own.push(path[1..].to_vec()),
                "super" => {
                    let up = path.iter().take_while(|segment| *segment == "super").count();
                    let kept = module.len().saturating_sub(up);
                    own.push(module[..kept].iter().chain(&path[up..]).cloned().collect());
                }
                _ => drop(foreign.insert(path.join("::"))),
            }
        }
    }
    (own, foreign)
}

/// Reads one path, or one tree of paths in braces, from a token on; the token behind it.
fn read_tree(
    tokens: &[String],
    mut at: usize,
    prefix: &mut Vec<String>,
    paths: &mut Vec<Vec<String>>,
) -> usize {
    let depth = prefix.len();
    let token = |at: usize| tokens.get(at).map_or("", String::as_str);
    loop {
        if token(at) == "{" {
            at += 1;
            while !matches!(token(at), "}" | "") {
                at = if token(at) == "," { at + 1 } else { read_tree(tokens, at, prefix, paths) };
            }
            at += 1;
            break;
        }
        if is_name(token(at)) && token(at) != "self" {
            prefix.push(token(at).into());
        }
        at += 1;
        if token(at) != "::" {
            if token(at) == "as" {
                at += 2;
            }
            paths.push(prefix.clone());
            break;
        }
        at += 1;
    }
    prefix.truncate(depth);
    at
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Leaves out the items that only tests are built with.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].len() < MARK.len() || tokens[at..at + MARK.len()] != MARK {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let mut depth = 0;
        at += MARK.len();
        while at < tokens.len() {
            match tokens[at].as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 && matches!(tokens[at - 1].as_str(), ";" | "}") {
                break;
            }
        }
    }
    kept
}

/// Names, `::` and single signs; comments, text and lifetimes are left out.
fn tokens_of(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = literal(rest) {
            length
        } else if rest.starts_with("::") {
            tokens.push("::".into());
            2
        } else if first.is_alphanumeric() || first == '_' {
            let length = rest.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(rest.len());
            tokens.push(rest[..length].into());
            length
        } else {
            if !first.is_whitespace() {
                tokens.push(first.into());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

/// How long the text, character or lifetime is that something begins with, if it begins with one.
fn literal(rest: &str) -> Option<usize> {
    let raw = rest.trim_start_matches('b').strip_prefix('r').map(|raw| (raw, raw.trim_start_matches('#')));
    if let Some((raw, quoted)) = raw.filter(|(_, quoted)| quoted.starts_with('"')) {
        let end = format!("\"{}", "#".repeat(raw.len() - quoted.len()));
        let begin = rest.len() - quoted.len() + 1;
        return rest[begin..].find(&end).map(|length| begin + length + end.len());
    }
    let plain = rest.strip_prefix('b').filter(|plain| plain.starts_with(['"', '\''])).unwrap_or(rest);
    let quote = plain.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let begin = rest.len() - plain.len() + 1;
    let inside = &rest[begin..];
    if quote == '\'' && !inside.starts_with('\\') {
        let length = inside.chars().next()?.len_utf8();
        // A lifetime has no closing quote.
        return Some(begin + if inside[length..].starts_with('\'') { length + 1 } else { 0 });
    }
    let mut escaped = false;
    let end = inside.find(|next| {
        let ends = next == quote && !escaped;
        escaped = next == '\\' && !escaped;
        ends
    });
    end.map(|end| begin + end + 1)
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
