<?php
/*
 * A front controller as PHP applications have them: finds the route of a request where those of its style do, and answers
 * as JSON whether that leads to the unlock call. Each of them is as forgiving as some that are in use: they fold case,
 * pass over empty segments, and drop from a route what may not stand in one.
 *
 * Included by a script that says by which styles: `path_info`, `query` or `rewrite`.
 */

/** The route as a router of today matches it. */
const ROUTE = '~^/*(?:(?:index|api)\.php/+)?(?:api/+)?customer/+unlock/*$~iu';

/** The names of parameters that applications take a route from. */
const PARAMETERS = ['route', 'r', 'q', '_url', 'url', 'path', 's', 'do', 'task'];

class CustomerController
{
    public function unlock(): string
    {
        return 'unlock';
    }

    public function show(): string
    {
        return 'other';
    }
}

/** Text of a parameter that may be an array. */
function text(mixed $value): string
{
    return is_array($value) ? implode('/', array_map('text', $value)) : (string) $value;
}

/** Some routers clean a route first. */
function cleaned(string $route): string
{
    return preg_replace('/[\x00-\x1f\x7f]/', '', trim($route));
}

function leads_to_unlock(string $route): bool
{
    return preg_match(ROUTE, cleaned($route)) === 1;
}

/** By class and method, whose names have no case in PHP. */
function calls_unlock(string $controller, string $action): bool
{
    $class = cleaned($controller) . 'Controller';
    $method = cleaned($action);
    return class_exists($class) && method_exists($class, $method) && (new $class)->$method() === 'unlock';
}

function by_path_info(): bool
{
    return leads_to_unlock($_SERVER['PATH_INFO'] ?? '');
}

function by_query(): bool
{
    foreach (PARAMETERS as $name) {
        $route = text($_GET[$name] ?? '');
        // As it stands, as `customer.unlock`, as `Customer::unlock` and as `option=com_customer&task=unlock`.
        $parts = preg_split('/[.:_\s|-]+/', cleaned($route), -1, PREG_SPLIT_NO_EMPTY);
        if (leads_to_unlock($route) || leads_to_unlock(implode('/', $parts))) {
            return true;
        }
    }
    if (calls_unlock(text($_GET['controller'] ?? ''), text($_GET['action'] ?? ''))) {
        return true;
    }
    // `?customer/unlock` and `?customer=unlock`.
    $query = urldecode($_SERVER['QUERY_STRING'] ?? '');
    return leads_to_unlock(strtok($query, '&=') ?: '') || leads_to_unlock(strtr($query, '=', '/'));
}

function by_rewriting(): bool
{
    // Where the web server puts it, and where applications look by themselves.
    $target = explode('?', $_SERVER['REQUEST_URI'] ?? '', 2)[0];
    return leads_to_unlock(text($_GET['_url'] ?? '')) || leads_to_unlock(rawurldecode($target));
}

function answer(string $style): void
{
    $is_unlock = match ($style) {
        'path_info' => by_path_info(),
        'query' => by_query(),
        'rewrite' => by_rewriting(),
    };
    header('Content-Type: application/json');
    echo json_encode([
        'handler' => $is_unlock ? 'unlock' : 'other',
        'target' => base64_encode($_SERVER['REQUEST_URI'] ?? ''),
    ]);
}
