"""Sign-in by OpenID Connect, where OIDC_ISSUER is set: who somebody is, is the issuer and the subject it names, never an
e-mail address.
"""
