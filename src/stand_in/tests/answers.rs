//! What is answered to whom.

use super::*;

#[tokio::test]
async fn the_documented_call_is_answered_with_true() {
    let address = start().await;
    for _ in 0..2 {
        assert_eq!(
            exchange(address, call("customer_id=191")).await,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\ntrue"
        );
    }
}

#[tokio::test]
async fn a_lock_is_lifted_once_whatever_the_customer_is_looked_up_by() {
    let address = start().await;
    for (body, want) in [
        ("customer_id=191", "true"),
        ("subscription_id=5191", "true"),
        ("orderid=90191", "true"),
        ("orderid=90291", "true"),
        ("orderid=90192", "true"),
        ("customer_id=192", NOT_LOCKED),
        ("subscription_id=5192", NOT_LOCKED),
        ("subscription_id=5193", "true"),
        ("customer_id=193", NOT_LOCKED),
        ("customer_id=194", NOT_LOCKED),
        ("orderid=90295", NOT_LOCKED),
        ("customer_id=5191", NOT_FOUND),
        ("subscription_id=191", NOT_FOUND),
        ("orderid=191", NOT_FOUND),
        ("customer_id=slow-soon", NOT_FOUND),
        ("customer_id=Fail", NOT_FOUND),
        ("customer_id=195abc", NOT_LOCKED),
        ("customer_id=0195", NOT_LOCKED),
        ("customer_id=1.95e2", NOT_LOCKED),
        ("customer_id=+195.0", NOT_LOCKED),
        ("orderid=90295-7", NOT_LOCKED),
        ("customer_id=x195", NOT_FOUND),
    ] {
        assert_eq!(ask(address, call(body)).await, (OK.into(), want.into()), "{body}");
    }
}

#[tokio::test]
async fn a_body_is_read_as_php_reads_it() {
    let address = start().await;
    let (missing, known) = (("400 Bad Request", NO_LOOKUP), (OK, "true"));
    for (body, want) in [
        ("customer.id=191", known),
        ("+customer%5Fid=%3191", known),
        ("customer_id=7&customer[id=191", known),
        ("customer_id=191&customer_id=7", (OK, NOT_FOUND)),
        ("customer_id[]=7&customer_id=191", known),
        ("customer_id=191&customer_id[]=7", missing),
        ("customer_id=7;customer_id=191", (OK, NOT_FOUND)),
        ("orderid=7&customer_id=191", known),
        ("customer_id=&subscription_id=5191", known),
        ("customer_id=0&subscription_id[]=5&orderid=90191", known),
        ("Customer_id=191", missing),
        ("{\"customer_id\":191}", missing),
        ("customer_id=", missing),
        ("", missing),
    ] {
        let (status, answer) = ask(address, call_with("Content-Type: text/plain\r\n", body)).await;
        assert_eq!((status.as_str(), answer.as_str()), want, "{body}");
    }
}

#[tokio::test]
async fn fields_are_read_as_cgi_hands_them_on() {
    let address = start().await;
    let (refused, known) = (("401 Unauthorized", NOT_ALLOWED), (OK, "true"));
    let (name, key) = (SAMPLE_USERNAME, SAMPLE_KEY);
    for (fields, want) in [
        (format!("api-username: {name}\r\napi-key: {key}\r\n"), known),
        (format!("API_USERNAME:{name}\r\nApi.Key:  {key} \r\n"), known),
        (format!("api-username: {name}\r\napi-key: {key}\r\napi_key: {key}\r\n"), refused),
        (format!("api-username: {name}\r\napi-username: {name}\r\napi-key: {key}\r\n"), refused),
        (format!("api-username: {name}\r\napi-key: {key}0\r\n"), refused),
        (format!("api-username: N4N_ADMIN\r\napi-key: {key}\r\n"), known),
        (format!("api-username: {name}\r\napi-key: {}\r\n", key.to_uppercase()), refused),
        (format!("api-username: {name}\r\n"), refused),
        (format!("api-key: {key}\r\n"), refused),
        (String::new(), refused),
    ] {
        let request = format!(
            "PATCH /api/customer/unlock HTTP/1.1\r\nContent-Length: 15\r\n{fields}\r\ncustomer_id=191"
        );
        let (status, body) = ask(address, request).await;
        assert_eq!((status.as_str(), body.as_str()), want, "{fields}");
    }
}

#[tokio::test]
async fn path_and_method_decide_before_anything_else() {
    let address = start().await;
    let wrong_method = "405 Method Not Allowed";
    for (line, fields, want) in [
        ("PATCH /api/customer/unlock", "", OK),
        ("PATCH /api/customer/unlock?customer_id=7", "", OK),
        ("PATCH http://n4n/api/customer/unlock", "", OK),
        ("POST /api/customer/unlock", "X-HTTP-Method: PATCH\r\n", OK),
        ("POST /api/customer/unlock", "X_HTTP_METHOD_OVERRIDE: patch\r\n", OK),
        ("POST /api/customer/unlock", "X-Method-Override: PATCH\r\n", OK),
        ("POST /api/customer/unlock", "X-HTTP-Method: DELETE\r\n", wrong_method),
        ("POST /api/customer/unlock", "", wrong_method),
        ("GET /api/customer/unlock", "X-HTTP-Method: PATCH\r\n", wrong_method),
        ("patch /api/customer/unlock", "", wrong_method),
        ("PATCH /api/customer/unlock/", "", "404 Not Found"),
        ("PATCH /API/customer/unlock", "", "404 Not Found"),
        ("PATCH /", "", "404 Not Found"),
        ("GET /favicon.ico", "", "404 Not Found"),
        ("GET /", "", OK),
        ("GET http://n4n", "", OK),
    ] {
        let credentials = credentials();
        let request =
            format!("{line} HTTP/1.1\r\nContent-Length: 15\r\n{credentials}{fields}\r\ncustomer_id=191");
        let (status, body) = ask(address, request).await;
        assert_eq!(status, want, "{line} {fields}");
        assert_eq!(body == "true", want == OK && !line.starts_with("GET"), "{line} {fields}");
        assert_eq!(body == WRONG_METHOD, want == wrong_method, "{line} {fields}");
    }
}

#[tokio::test]
async fn a_head_request_is_answered_without_a_body() {
    let answer = exchange(start().await, "HEAD / HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}
