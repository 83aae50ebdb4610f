//! The operation that the gateway protects: method, path, form and success, said here and nowhere else.

use http::Method;

/// What a call of one operation looks like, and what its success.
#[derive(Debug)]
pub struct Operation {
    /// The one method.
    pub method: Method,
    /// The one spelling of its path.
    pub path: &'static str,
    /// The segments that tell that path from others of the API, in small letters: its first, `api`, is in all of them.
    pub words: [&'static str; 2],
    /// The media type of its body.
    pub media_type: &'static str,
    /// The parameters of which a body has one, by which a customer is looked up.
    pub keys: [&'static str; 3],
    /// What the value of each key must be unless the configuration says otherwise, as regular expressions for the whole.
    ///
    /// A number column reads text as far as a number goes, so nothing here begins like a number and goes on as something
    /// else, and a number has one spelling. Eighteen digits fit into every integer of 64 bits.
    pub patterns: [&'static str; 3],
    /// The body of a 2xx answer, white space around it aside, that says the operation was carried out.
    pub success: &'static str,
}

/// Parts of [`UNLOCK`] as literals, for texts that [`concat!`] puts together.
macro_rules! unlock {
    (method) => {
        "PATCH"
    };
    (path) => {
        "/api/customer/unlock"
    };
    (media_type) => {
        "application/x-www-form-urlencoded"
    };
    (customer_id) => {
        "customer_id"
    };
    (subscription_id) => {
        "subscription_id"
    };
    (orderid) => {
        "orderid"
    };
    (number) => {
        "[1-9][0-9]{0,17}"
    };
    (number or word) => {
        concat!($crate::operation::unlock!(number), "|[A-Za-z][0-9A-Za-z_.:-]{0,63}")
    };
    (keys $joined:literal) => {
        concat!(
            "`",
            $crate::operation::unlock!(customer_id),
            "`, `",
            $crate::operation::unlock!(subscription_id),
            $joined,
            $crate::operation::unlock!(orderid),
            "`"
        )
    };
    (keys and) => {
        $crate::operation::unlock!(keys "` and `")
    };
    (keys or) => {
        $crate::operation::unlock!(keys "` or `")
    };
}
pub(crate) use unlock;

/// Unlocks a customer.
pub static UNLOCK: Operation = Operation {
    method: Method::PATCH,
    path: unlock!(path),
    words: ["customer", "unlock"],
    media_type: unlock!(media_type),
    keys: [unlock!(customer_id), unlock!(subscription_id), unlock!(orderid)],
    patterns: [unlock!(number), unlock!(number or word), unlock!(number or word)],
    success: "true",
};

impl Operation {
    /// Whether the body of a 2xx answer says that the operation was carried out.
    pub fn is_success(&self, body: &[u8]) -> bool {
        body.trim_ascii() == self.success.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_parts_fit_together() {
        assert_eq!(UNLOCK.method.as_str(), unlock!(method));
        assert_eq!(format!("/api/{}", UNLOCK.words.join("/")), UNLOCK.path);
        assert_eq!(unlock!(keys and), "`customer_id`, `subscription_id` and `orderid`");
    }
}
