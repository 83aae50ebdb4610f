<?php
/*
 * An application that looks ids up in a real MariaDB, as n4n may: in columns of whole numbers, decimal numbers and text, by
 * PDO's emulated and native prepared statements. N4N_DB names the server's socket.
 *
 * Behind `php -S` it answers an unlock call with what it finds, as JSON. From the command line it answers batches on standard
 * input, each ended by an empty line: `+TABLE=ID`, encoded like a form, is a row to have, any other line a body to answer.
 */

const TABLES = [
    'by_int' => 'INT',
    'by_bigint' => 'BIGINT',
    'by_decimal' => 'DECIMAL(20,2)',
    'by_varchar' => 'VARCHAR(190) COLLATE utf8mb4_unicode_ci',
];

function connect(bool $emulates): PDO
{
    return new PDO('mysql:charset=utf8mb4;unix_socket=' . getenv('N4N_DB'), 'root', '', [
        PDO::ATTR_EMULATE_PREPARES => $emulates,
        PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
    ]);
}

/** What is known of a database that may not have been set up. */
function set_up(PDO $database): void
{
    $database->exec('CREATE DATABASE IF NOT EXISTS n4n CHARACTER SET utf8mb4');
    foreach (TABLES as $table => $type) {
        $database->exec("CREATE TABLE IF NOT EXISTS n4n.$table (id $type PRIMARY KEY)");
        $database->exec("INSERT IGNORE INTO n4n.$table VALUES ('0')");
    }
}

/** Has these rows, by table, in the database. */
function add(PDO $database, array $rows): void
{
    foreach ($rows as $table => $ids) {
        assert(isset(TABLES[$table]));
        foreach (array_chunk($ids, 1000) as $some) {
            $places = implode(',', array_fill(0, count($some), '(?)'));
            $database->prepare("INSERT IGNORE INTO n4n.$table VALUES $places")->execute($some);
        }
    }
}

/** The ids that a body's lookup finds: by way of asking, then by table; and what PHP's own whole number is of it. */
function found(array $statements, string $body): array
{
    parse_str($body, $pairs);
    $value = reset($pairs);
    $found = ['cast' => (string) (int) $value];
    foreach ($statements as $way => $statement) {
        $statement->execute(array_fill(0, count(TABLES), $value));
        $found[$way] = array_fill_keys(array_keys(TABLES), []);
        foreach ($statement->fetchAll(PDO::FETCH_NUM) as [$table, $id]) {
            $found[$way][$table][] = $id;
        }
    }
    return $found;
}

$databases = ['emulated' => connect(true), 'native' => connect(false)];
if (PHP_SAPI === 'cli') {
    set_up($databases['emulated']);
}
$select = fn ($table) => "SELECT '$table', CAST(id AS CHAR) FROM n4n.$table WHERE id = ?";
$sql = implode(' UNION ALL ', array_map($select, array_keys(TABLES)));
$statements = array_map(fn ($database) => $database->prepare($sql), $databases);

if (PHP_SAPI !== 'cli') {
    header('Content-Type: application/json');
    echo json_encode(found($statements, file_get_contents('php://input')));
    return;
}
$rows = $bodies = [];
while (($line = fgets(STDIN)) !== false) {
    $line = rtrim($line, "\n");
    if ($line === '') {
        $databases['emulated']->beginTransaction();
        add($databases['emulated'], $rows);
        $databases['emulated']->commit();
        foreach ($bodies as $body) {
            echo json_encode(found($statements, $body)), "\n";
        }
        flush();
        $rows = $bodies = [];
    } elseif ($line[0] === '+') {
        [$table, $id] = explode('=', substr($line, 1), 2);
        $rows[$table][] = urldecode($id);
    } else {
        $bodies[] = $line;
    }
}
