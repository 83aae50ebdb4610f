//! `policy.other_paths`.

use http::Method;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    config::table::{Flaw, Value, kind},
    policy::{ListedPath, OtherPaths, other_paths::is_plain, path},
};

/// The methods that a path can be listed with. CONNECT asks for a tunnel, and TRACE shows credentials to whoever asks.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// The methods of a path that is listed without any.
const TO_READ: [Method; 2] = [Method::GET, Method::HEAD];

impl Value for OtherPaths {
    const EXPECTED: &'static str = "\"reject\", \"forward\", or a list such as [{ prefix = \"/static/\", methods = [\"GET\"] }, \"/health\"]";

    fn read(value: &DeValue<'_>) -> Result<Self, Option<String>> {
        match value.as_str() {
            Some("reject") => Ok(Self::Reject),
            Some("forward") => Ok(Self::Forward),
            Some(_) => Err(Some("is neither \"reject\" nor \"forward\" nor a list of paths".into())),
            None => Err(None),
        }
    }

    fn read_all(value: &Spanned<DeValue<'_>>) -> Result<Self, Vec<Flaw>> {
        let Some(entries) = value.get_ref().as_array() else {
            let otherwise = || format!("{} cannot stand here", kind(value.get_ref()));
            return Self::read(value.get_ref())
                .map_err(|reason| vec![Flaw::at(value.span(), reason.unwrap_or_else(otherwise))]);
        };
        let mut listed: Vec<ListedPath> = Vec::with_capacity(entries.len());
        let mut flaws = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            match read_entry(entry.get_ref()) {
                Ok(path) if listed.iter().any(|earlier| earlier.prefix == path.prefix) => {
                    flaws.push((index, entry, "has the prefix of an entry before it".into()));
                }
                Ok(path) => listed.push(path),
                Err(reason) => flaws.push((index, entry, reason)),
            }
        }
        if entries.is_empty() {
            return Err(vec![Flaw::at(value.span(), "is an empty list")]);
        }
        if flaws.is_empty() {
            return Ok(Self::Listed(listed));
        }
        let flaw = |(index, entry, reason): (usize, &Spanned<DeValue<'_>>, String)| {
            Flaw::at(entry.span(), format!("entry {}: {reason}", index + 1))
        };
        Err(flaws.into_iter().map(flaw).collect())
    }
}

/// Reads one entry of the list, or tells what is wrong with it.
fn read_entry(entry: &DeValue<'_>) -> Result<ListedPath, String> {
    if let Some(prefix) = entry.as_str() {
        return Ok(ListedPath { prefix: read_prefix(prefix)?, methods: TO_READ.into() });
    }
    let table = entry.as_table().ok_or_else(|| format!("{} cannot stand here", kind(entry)))?;
    if table.iter().any(|(key, _)| !["prefix", "methods"].contains(&&**key.get_ref())) {
        return Err("has a key that is neither `prefix` nor `methods`".into());
    }
    let prefix = value_of(table, "prefix").ok_or("has no `prefix`")?;
    let prefix = prefix.as_str().ok_or("has a `prefix` that is no text")?;
    let methods = value_of(table, "methods").map_or_else(|| Ok(TO_READ.into()), read_methods)?;
    Ok(ListedPath { prefix: read_prefix(prefix)?, methods })
}

fn value_of<'a>(table: &'a DeTable<'a>, key: &str) -> Option<&'a DeValue<'a>> {
    table.iter().find(|(other, _)| other.get_ref() == key).map(|(_, value)| value.get_ref())
}

fn read_prefix(prefix: &str) -> Result<String, String> {
    let is_spelt_out = |byte: u8| byte.is_ascii_graphic() && !b"%?#".contains(&byte);
    if !is_plain(prefix) || !prefix.bytes().all(is_spelt_out) {
        let form = "a slash first, no `//`, no dot segments, no encoding, no `?`";
        return Err(format!("has a prefix that is no path in normal form ({form})"));
    }
    match path::classify(prefix) {
        path::Class::Other => Ok(prefix.into()),
        path::Class::Unlock { .. } | path::Class::Disguised => {
            Err("has a prefix that could be read as the unlock path, which never passes unjudged".into())
        }
    }
}

fn read_methods(written: &DeValue<'_>) -> Result<Vec<Method>, String> {
    let written = written.as_array().ok_or("has `methods` that are no list")?;
    let mut methods = Vec::with_capacity(written.len());
    for name in written {
        let method = METHODS.into_iter().find(|method| name.get_ref().as_str() == Some(method.as_str()));
        let method = method.ok_or_else(|| {
            let names: Vec<_> = METHODS.iter().map(Method::as_str).collect();
            format!("has a method that is none of {}", names.join(", "))
        })?;
        if methods.contains(&method) {
            return Err("names a method twice".into());
        }
        methods.push(method);
    }
    if methods.is_empty() { Err("has no methods".into()) } else { Ok(methods) }
}
