<?php
/*
 * Answers which credentials an application is given, as JSON: what this server made of the request's
 * header fields. Runs behind any server, and under php-cgi.
 */

header('Content-Type: application/json');
echo json_encode([
    'key' => $_SERVER['HTTP_API_KEY'] ?? null,
    'username' => $_SERVER['HTTP_API_USERNAME'] ?? null,
]);
