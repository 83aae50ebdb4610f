# The documented Python sample with Python 3's print; the URL is the one argument.
import sys
import requests
import json
url = sys.argv[1]
payload = {
    'customer_id': 191,
}
headers = {
    'api-key': '44b5498dbcb481a0d00b404c0169af62',
    'api-username': 'n4n_admin'
}
res = requests.patch(url, data=payload, headers=headers)
print(res.json())
