<?php
/*
 * An n4n as a PHP application: it reads the request the way PHP applications read a PATCH, answers
 * the unlock call, and keeps what it saw.
 *
 * Run as `php -S 127.0.0.1:0 router.php`. Each request but those to `/_seen` is appended, one JSON
 * object a line, to the file named by N4N_SEEN; `GET /_seen?last=N` answers the last N as a JSON array.
 */

const KEYS = ['n4n_admin' => '44b5498dbcb481a0d00b404c0169af62'];

/** The customers, by each id they can be looked up with. */
const CUSTOMERS = [
    'customer_id' => ['191', '192'],
    'subscription_id' => ['5191', '5192'],
    'orderid' => ['90191', 'order:90192'],
];

const OVERRIDES = ['HTTP_X_HTTP_METHOD', 'HTTP_X_HTTP_METHOD_OVERRIDE', 'HTTP_X_METHOD_OVERRIDE'];

function answer(int $status, mixed $value): void
{
    http_response_code($status);
    header('Content-Type: application/json');
    echo json_encode($value);
}

function seen_file(): string
{
    return getenv('N4N_SEEN') ?: sys_get_temp_dir() . '/n4n-seen-' . getmypid() . '.jsonl';
}

/** What an application acts upon: the method after overrides, the pairs of the query and of the body. */
function request_as_read(): array
{
    $body = file_get_contents('php://input');
    parse_str($body, $pairs);
    $overrides = array_intersect_key($_SERVER, array_flip(OVERRIDES));
    return [
        'method' => $_SERVER['REQUEST_METHOD'],
        'effective_method' => strtoupper(reset($overrides) ?: $_SERVER['REQUEST_METHOD']),
        'overrides' => (object) $overrides,
        'uri' => $_SERVER['REQUEST_URI'],
        'query' => (object) $_GET,
        'headers' => (object) getallheaders(),
        'server' => (object) array_filter(
            $_SERVER,
            fn ($name) => preg_match('/^(HTTP|CONTENT)_/', $name) === 1,
            ARRAY_FILTER_USE_KEY
        ),
        'body_base64' => base64_encode($body),
        'pairs' => (object) $pairs,
    ];
}

function remember(array $request): void
{
    $line = json_encode($request, JSON_INVALID_UTF8_SUBSTITUTE | JSON_UNESCAPED_SLASHES);
    file_put_contents(seen_file(), $line . "\n", FILE_APPEND | LOCK_EX);
}

function seen(int $last): array
{
    $lines = @file(seen_file(), FILE_IGNORE_NEW_LINES) ?: [];
    return array_map('json_decode', array_slice($lines, -$last));
}

function unlock(array $pairs): void
{
    $user = $_SERVER['HTTP_API_USERNAME'] ?? '';
    $key = KEYS[$user] ?? null;
    if ($key === null || !hash_equals($key, $_SERVER['HTTP_API_KEY'] ?? '')) {
        answer(401, ['error' => 'Invalid api-key or api-username']);
        return;
    }
    $lookups = array_intersect_key($pairs, CUSTOMERS);
    if ($lookups === []) {
        answer(400, ['error' => 'customer_id, subscription_id or orderid is required']);
        return;
    }
    // Which of several keys an application prefers is its own affair; this one takes the last.
    $value = end($lookups);
    $known = in_array($value, CUSTOMERS[key($lookups)], true);
    $known ? answer(200, true) : answer(200, ['error' => 'Customer not found']);
}

$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
if ($path === '/_seen') {
    answer(200, seen((int) ($_GET['last'] ?? 100)));
    return;
}

$request = request_as_read();
remember($request);
if ($path !== '/api/customer/unlock') {
    answer(404, ['error' => 'Unknown endpoint']);
} elseif ($request['effective_method'] !== 'PATCH') {
    answer(405, ['error' => 'Method not allowed']);
} else {
    parse_str(base64_decode($request['body_base64']), $pairs);
    unlock($pairs);
}
