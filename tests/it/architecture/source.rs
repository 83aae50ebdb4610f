//! The library's files, and which of them each one imports.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::paths::paths_of;

/// A file of the library, and what its code names, tests left out.
pub(super) struct SourceFile {
    /// The path of its module, without `crate`.
    module: Vec<String>,
    path: PathBuf,
    /// The paths into this crate, without `crate`.
    own: BTreeSet<Vec<String>>,
    /// The paths that begin with another name.
    pub(super) foreign: BTreeSet<String>,
}

impl SourceFile {
    /// Every file of the library but its root, which only lists the modules.
    pub(super) fn all() -> Vec<Self> {
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

    pub(super) fn path(&self) -> String {
        self.path.strip_prefix(root()).unwrap().display().to_string()
    }

    pub(super) fn top(&self) -> &str {
        &self.module[0]
    }

    pub(super) fn is_family_of(&self, other: &Self) -> bool {
        self.module.starts_with(&other.module) || other.module.starts_with(&self.module)
    }

    /// The other files that its paths lead into.
    pub(super) fn imports<'a>(&self, files: &'a [Self]) -> Vec<&'a Self> {
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

pub(super) fn rust_files(folder: &str) -> Vec<PathBuf> {
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

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
