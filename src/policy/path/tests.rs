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

/// What front controllers, and the web servers before them, take for the unlock call.
#[test]
fn what_some_application_would_route_to_it_is_a_disguise() {
    for target in [
        "/api/index.php/customer/unlock",
        "/api/index.php//customer/unlock?x",
        "/api/index.php%2fcustomer/unlock",
        "/api/INDEX.php/customer/unlock",
        "/api.php/customer/unlock",
        "/customer/unlock",
        "/api/customer/x/unlock",
        "/unlock/customer/api",
        "/api/index.php?_url=/customer/unlock",
        "/api/?route=customer/unlock",
        "/api/?route[]=customer&route[]=unlock",
        "/api/?route%5B%5D=customer&x=1&route%5B%5D=unlock",
        "/?controller=customer&action=unlock",
        "/?action=unlock&controller=customer",
        "/?customer/unlock=1",
        "/?customer=unlock",
        "/api+customer+unlock",
        "/?q=unlock+customer&page=2",
        "/?task=customer.unlock",
        "/?call=CustomerController::actionUnlock",
        "/?call=customerunlock",
        "/customer-unlock",
        "/api/customer/un-lock",
        "/api/cust%6fmer/unlock",
        "/api/cu%c5%bftomer/unlock",
        "/api/customer/unloc%e2%84%aa",
        "/api/customer/unloc%25E2%2584%25AA",
        "/api/custo%01mer/unlock",
        "/api/customer/unlocked",
        // To whoever does not decode it, a segment that ends so; to others, a comma before the rest.
        "/x%2customer/unlock",
        "/x%252customer/%75nlock",
        "http://n4n.example.com/?r=customer/unlock",
        "http://n4n.example.com?x",
    ] {
        assert_eq!(classify(target), Class::Disguised, "{target}");
    }
}

#[test]
fn what_is_encoded_too_often_is_a_disguise_whatever_it_says() {
    let encoded = |times| format!("/a%{}41", "25".repeat(times));
    assert_eq!(classify(&encoded(MOST_ENCODINGS - 1)), Class::Other);
    assert_eq!(classify(&encoded(MOST_ENCODINGS)), Class::Disguised);
    // And is not decoded to its end, which would take time without measure.
    assert_eq!(classify(&encoded(8000)), Class::Disguised);
}

#[test]
fn anything_else_is_another_path() {
    for target in [
        "/",
        "*",
        "/api/customer",
        "/api/customer/lock",
        "/api/customer/un/lock",
        "/api/customer?un=lock",
        "/api/subscription/unlock",
        "/customers?status=locked",
        "/unlock?next=/api/custom/er",
        "/%zz%?%",
        "/%2525",
        "http://n4n.example.com",
    ] {
        assert_eq!(classify(target), Class::Other, "{target}");
    }
}
