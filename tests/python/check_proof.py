"""Checks a proof with PyJWT, as a back end would: by the key set that the server publishes.

Arguments: the key set's address, the issuer, the audience, the proof. Prints what the proof says as
JSON, or why it does not hold, and then ends with 1.
"""

import json
import sys

import jwt

key_set, issuer, audience, proof = sys.argv[1:]
try:
    key = jwt.PyJWKClient(key_set).get_signing_key_from_jwt(proof)
    claims = jwt.decode(
        proof,
        key,
        algorithms=["EdDSA"],
        issuer=issuer,
        audience=audience,
        options={"require": ["iss", "aud", "sub", "iat", "exp", "jti", "amr"]},
    )
except jwt.PyJWTError as error:
    print(type(error).__name__, error, file=sys.stderr)
    sys.exit(1)
print(json.dumps({"header": jwt.get_unverified_header(proof), "claims": claims}))
