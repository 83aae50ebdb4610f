//! Names and values as PHP reads them.

use super::*;

fn read(body: &str) -> Vec<(String, bool, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    parse_str(body.as_bytes()).map(|v| (text(&v.name), v.is_array, text(&v.value))).collect()
}

#[test]
fn names_are_folded_as_php_folds_them() {
    for (body, name, is_array) in [
        ("customer_id=1", "customer_id", false),
        ("customer%5Fid=1", "customer_id", false),
        ("customer.id=1", "customer_id", false),
        ("customer+id=1", "customer_id", false),
        ("customer%20id=1", "customer_id", false),
        ("customer%2Eid=1", "customer_id", false),
        ("customer[id=1", "customer_id", false),
        ("+customer_id=1", "customer_id", false),
        ("customer_id%00x=1", "customer_id", false),
        ("customer_id[]=1", "customer_id", true),
        ("customer_id[a][b=1", "customer_id", true),
        ("Customer_id=1", "Customer_id", false),
        ("%zz=1", "%zz", false),
    ] {
        assert_eq!(read(body), [(name.into(), is_array, "1".into())], "{body}");
    }
}

#[test]
fn a_name_that_is_empty_after_folding_registers_nothing() {
    for body in ["", "&&", "=1", "+=1", "%00a=1", "[a]=1", "[=1"] {
        assert_eq!(read(body), [], "{body}");
    }
}

#[test]
fn values_keep_every_byte() {
    for (body, value) in [("a", ""), ("a=", ""), ("a=b=c", "b=c"), ("a=%00%0a", "\0\n"), ("a=;b", ";b")] {
        assert_eq!(read(body), [("a".into(), false, value.into())], "{body}");
    }
}

#[test]
fn the_rest_is_dropped_after_a_thousand_variables() {
    let body = "a=1&".repeat(MAX_INPUT_VARS) + "b=1";
    assert_eq!(read(&body).len(), MAX_INPUT_VARS);
}
