<?php
/*
 * What `parse_str` makes of form bodies, told exactly.
 *
 * Reads blocks from standard input: the length of what follows, then body after body, each after its
 * own length. Answers each block on standard output in the same way: its length, then for each body
 * one byte that is 1 where the body is nothing but one variable, spelt as it was read; the number of
 * variables; and each variable's name and value. Numbers are 32 bits, the lowest byte first. An array
 * has no value; the length 0xffffffff stands for it.
 */

const ARRAY_MARK = "\xff\xff\xff\xff";

function text(string $bytes): string
{
    return pack('V', strlen($bytes)) . $bytes;
}

/** Whether the one piece that is not empty decodes to this name and value, without any folding. */
function is_spelt_as_read(string $body, string $name, string $value): bool
{
    $pieces = array_filter(explode('&', $body), fn ($piece) => $piece !== '');
    if (count($pieces) !== 1) {
        return false;
    }
    [$raw_name, $raw_value] = explode('=', reset($pieces), 2) + [1 => ''];
    return urldecode($raw_name) === $name && urldecode($raw_value) === $value;
}

function reading(string $body): string
{
    parse_str($body, $variables);
    $name = (string) array_key_first($variables);
    $value = $variables[$name] ?? null;
    $is_plain = count($variables) === 1 && is_string($value) && is_spelt_as_read($body, $name, $value);
    $reading = ($is_plain ? "\1" : "\0") . pack('V', count($variables));
    foreach ($variables as $name => $value) {
        $reading .= text((string) $name) . (is_string($value) ? text($value) : ARRAY_MARK);
    }
    return $reading;
}

/** Exactly so many bytes of standard input; ends the script where the input ends. */
function take(int $length): string
{
    $bytes = '';
    while (strlen($bytes) < $length) {
        $piece = fread(STDIN, $length - strlen($bytes));
        if ($piece === '' || $piece === false) {
            exit($bytes === '' ? 0 : 1);
        }
        $bytes .= $piece;
    }
    return $bytes;
}

// More variables than max_input_vars or deeper ones than max_input_nesting_level are warned about.
error_reporting(0);

while (true) {
    $block = take(unpack('V', take(4))[1]);
    $answer = '';
    for ($at = 0; $at < strlen($block); $at += $length) {
        $length = unpack('V', $block, $at)[1];
        $at += 4;
        $answer .= reading(substr($block, $at, $length));
    }
    fwrite(STDOUT, text($answer));
}
