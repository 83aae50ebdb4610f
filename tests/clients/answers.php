<?php
// Makes each call of a list many times over HTTP/2, half of them by connections of their own, and prints what came.
[, $address, $ca, $cases, $count] = $argv;
[$host, $port, $ip] = explode(' ', $address);
$told = [];
foreach (json_decode(file_get_contents($cases), true) as $case) {
    $curl = curl_init();
    $came = [];
    for ($i = 0; $i < $count; $i++) {
        curl_setopt_array($curl, [
            CURLOPT_URL => "https://$host:$port{$case['target']}",
            CURLOPT_CUSTOMREQUEST => $case['method'],
            CURLOPT_HTTPHEADER => $case['fields'],
            CURLOPT_POSTFIELDS => $case['body'] ?? str_repeat('a', $case['length']),
            CURLOPT_RETURNTRANSFER => true,
            CURLOPT_HTTP_VERSION => CURL_HTTP_VERSION_2TLS,
            CURLOPT_CAINFO => $ca,
            CURLOPT_RESOLVE => ["$host:$port:$ip"],
            CURLOPT_PROXY => '',
            CURLOPT_FRESH_CONNECT => $i % 2 == 0,
            CURLOPT_TIMEOUT => 30,
        ]);
        $answer = curl_exec($curl);
        $version = curl_getinfo($curl, CURLINFO_HTTP_VERSION);
        $status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
        $code = $answer === false ? curl_error($curl) : (json_decode($answer, true)['code'] ?? $answer);
        $one = $answer === false ? "none: $code" : "$status $code over " . ($version == CURL_HTTP_VERSION_2_0 ? 2 : 1);
        $came[$one] = ($came[$one] ?? 0) + 1;
    }
    $told[] = ['case' => $case['case'], 'came' => $came];
}
echo json_encode($told);
