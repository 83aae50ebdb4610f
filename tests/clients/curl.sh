#!/bin/sh
# The documented curl sample; the URL is the one argument.
curl -X PATCH "$1" -H "api-key: 44b5498dbcb481a0d00b404c0169af62" -H "api-username: n4n_admin" -H "Content-Type: application/x-www-form-urlencoded" -d 'customer_id=191'
