//! The paths that Rust code names, in `use` declarations and inline.

use std::collections::BTreeSet;

/// The paths in a file's code: into this crate, as segments from its root, and those that begin elsewhere.
pub(super) fn paths_of(text: &str, module: &[String]) -> (Vec<Vec<String>>, BTreeSet<String>) {
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
