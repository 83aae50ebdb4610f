//! Which targets are the unlock path, could be read as it, or are another path.

use super::*;

#[test]
fn one_spelling_is_the_unlock_path() {
    for target in [UNLOCK.path, "http://n4n.example.com/api/customer/unlock"] {
        assert_eq!(classify(target), Class::Unlock { query: false }, "{target}");
    }
    for target in ["/api/customer/unlock?", "/api/customer/unlock?customer_id=1"] {
        assert_eq!(classify(target), Class::Unlock { query: true }, "{target}");
    }
}

#[test]
fn what_some_upstream_would_read_as_it_is_a_disguise() {
    for target in [
        "/api/customer/unlock/",
        "//api/customer/unlock",
        "/api//customer/unlock",
        "/./api/customer/unlock",
        "/api/x/../customer/unlock",
        "/x/../../api/customer/unlock",
        "/api/customer/unlock/..",
        "/API/Customer/UNLOCK",
        "/%61pi/customer/unlock",
        "/api%2fcustomer%2Funlock",
        "/api%252fcustomer/unlock",
        "/api%25252525252fcustomer/unlock",
        "/api\\customer\\unlock",
        "/api%5ccustomer%5cunlock",
        "/api/customer/unlock;jsessionid=1",
        "/api;a=b/customer;c/unlock",
        "/api/customer/unlock%3bx",
        "/api/customer/unlock%00",
        "/api/customer/unlock%00.html",
        "/api/customer/unlock%3fx",
        "/api/customer/unlock%23x",
        "/index.php/api/customer/unlock",
        "/index.php?route=/api/customer/unlock",
        "/index.php?r=api%2fcustomer%2funlock&x=1",
        "/api/customer/unlock/extra",
        "/api/customer/unlock%0a",
        "/api/customer/%20unlock%20",
        "/api/customer/unlock.",
        "/api./customer%09/unlock..",
        "http://n4n.example.com//api/customer/unlock",
    ] {
        assert_eq!(classify(target), Class::Disguised, "{target}");
    }
}

#[test]
fn anything_else_is_another_path() {
    for target in [
        "/",
        "*",
        "/api/customer",
        "/api/customer/lock",
        "/api/customer/unlocked",
        "/xapi/customer/unlock",
        "/api/customer/x/unlock",
        "/unlock/customer/api",
        "/api+customer+unlock",
        "http://n4n.example.com",
    ] {
        assert_eq!(classify(target), Class::Other, "{target}");
    }
}
