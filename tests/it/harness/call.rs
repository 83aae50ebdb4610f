//! A call to write on the wire, right until a test makes it wrong.

use super::{API_KEY, API_USERNAME};

/// One request in the making.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: String,
    path: String,
    query: Option<String>,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    framing: Framing,
}

#[derive(Debug, Clone)]
enum Framing {
    Length,
    /// In chunks of at most so many bytes.
    Chunks(usize),
    /// As the fields say.
    ByHand,
}

impl Call {
    /// The documented call: unlock customer 191.
    pub(crate) fn unlock() -> Self {
        let fields = [
            ("Host", "gateway.test"),
            ("api-key", API_KEY),
            ("api-username", API_USERNAME),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        Self {
            method: "PATCH".to_owned(),
            path: "/api/customer/unlock".to_owned(),
            query: None,
            fields: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            body: b"customer_id=191".to_vec(),
            framing: Framing::Length,
        }
    }

    pub(crate) fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    pub(crate) fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    pub(crate) fn query(mut self, query: &str) -> Self {
        self.query = Some(query.to_owned());
        self
    }

    /// Adds a field line beside those that are there.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes the field lines of this name away.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(field, _)| !field.eq_ignore_ascii_case(name));
        self
    }

    /// Puts one field line in the place of those of the same name.
    pub(crate) fn set(self, name: &str, value: &str) -> Self {
        self.without(name).with(name, value)
    }

    pub(crate) fn user(self, name: &str) -> Self {
        self.set("api-username", name)
    }

    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// Adds bytes to the body.
    pub(crate) fn more_body(mut self, more: impl AsRef<[u8]>) -> Self {
        self.body.extend_from_slice(more.as_ref());
        self
    }

    /// Sends the body in chunks of at most `size` bytes.
    pub(crate) fn chunked(mut self, size: usize) -> Self {
        self.framing = Framing::Chunks(size);
        self
    }

    /// Leaves the framing fields to the test.
    pub(crate) fn framed_by_hand(mut self) -> Self {
        self.framing = Framing::ByHand;
        self
    }

    /// The head, up to and with the empty line.
    pub(crate) fn head(&self) -> Vec<u8> {
        let Self { method, path, query, fields, body, framing } = self;
        let query = query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let mut head = format!("{method} {path}{query} HTTP/1.1\r\n");
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match framing {
            Framing::Length => head.push_str(&format!("Content-Length: {}\r\n", body.len())),
            Framing::Chunks(_) => head.push_str("Transfer-Encoding: chunked\r\n"),
            Framing::ByHand => {}
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// The body as it goes on the wire.
    pub(crate) fn framed_body(&self) -> Vec<u8> {
        let Framing::Chunks(size) = self.framing else { return self.body.clone() };
        let mut framed = Vec::new();
        for chunk in self.body.chunks(size) {
            framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            framed.extend_from_slice(chunk);
            framed.extend_from_slice(b"\r\n");
        }
        framed.extend_from_slice(b"0\r\n\r\n");
        framed
    }

    /// The whole call.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.head(), self.framed_body()].concat()
    }
}
