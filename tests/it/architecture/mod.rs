//! How the source is laid out: who may import whom, and how long a file may be.

mod paths;
mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use paths::paths_of;
use source::{SourceFile, root, rust_files};

/// The modules from top to bottom: a module imports only from layers below its own.
const LAYERS: &[&[&str]] = &[
    &["cli"],
    &["check", "demo", "explain", "running"],
    &["server", "print", "secret_input"],
    &["admin", "admin_socket", "serve"],
    &["passage", "exchange"],
    &["request"],
    &["downstream", "gateway"],
    &["audit", "blocks", "descriptors", "stream_memory", "users"],
    &["telemetry"],
    &["unserved", "upstream"],
    &["alarm", "config", "outcome"],
    &["policy", "quota_store", "tls"],
    &["enumeration", "files", "guessing", "lookup", "quota", "unix_socket", "wire"],
    &["reason", "stand_in"],
    &["as_it_is", "client_network", "operation", "php", "threads"],
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
