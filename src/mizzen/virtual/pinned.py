"""Headers that a message cannot set by default: apps trust them to come from a browser, or from the proxy in front of them.

A name stands here if a proxy, or what hosts apps, documents that it sets it to say who the client is, where it comes from or what it asked
for. Where all names with one beginning are of that kind, the beginning stands here instead.
"""

from __future__ import annotations

from typing import Final

NAMES: Final[frozenset[bytes]] = frozenset(
    (
        # the browser, and HTTP itself
        *(b"host", b"origin", b"cookie", b"forwarded", b"via", b"cdn-loop"),
        # the client's address, as many proxies name it
        *(b"x-real-ip", b"client-ip", b"true-client-ip", b"x-cluster-client-ip", b"x-originating-ip", b"do-connecting-ip"),
        *(b"x-forwarded", b"forwarded-for"),
        # what the client asked for, before a proxy rewrote it (nginx ingress, IIS)
        *(b"x-original-for", b"x-original-forwarded-for", b"x-original-host", b"x-original-method", b"x-original-prefix"),
        *(b"x-original-proto", b"x-original-uri", b"x-original-url", b"x-rewrite-url"),
        *(b"x-real-host", b"x-real-port", b"x-real-proto", b"x-scheme", b"x-url-scheme", b"front-end-https"),
        # the user: Kong, Google's Endpoints and API Gateway, Teleport, Keycloak Gatekeeper, Kubeflow
        *(b"x-credential-identifier", b"x-anonymous-consumer"),
        *(b"x-endpoint-api-userinfo", b"x-apigateway-api-userinfo", b"teleport-jwt-assertion", b"kubeflow-userid"),
        *(b"x-auth-user", b"x-auth-username", b"x-auth-userid", b"x-auth-email", b"x-auth-roles", b"x-auth-groups", b"x-auth-subject"),
        # Azure App Service
        *(b"disguised-host", b"was-default-hostname"),
    )
)

PREFIXES: Final[tuple[bytes, ...]] = tuple(
    sorted(
        (
            *(b"sec-", b"proxy-", b"x-forwarded-"),
            # user or certificate of the client, as many proxies name them; client-cert is RFC 9440
            *(b"remote-", b"x-remote-", b"x-client-", b"x-ssl-", b"ssl-client-", b"client-cert", b"wl-proxy-", b"x-webauth-"),
            # oauth2-proxy, Authentik, Pomerium, Vouch, mod_auth_openidc, Shibboleth, Kong
            *(b"x-auth-request-", b"x-authentik-", b"x-pomerium-", b"x-vouch-", b"oidc-", b"shib-", b"x-consumer-", b"x-authenticated-"),
            # Cloudflare, Fastly, Akamai, Fly, Vercel, Netlify, Tailscale, Envoy
            *(b"cf-", b"fastly-", b"akamai-", b"x-akamai-", b"fly-", b"x-vercel-", b"x-nf-", b"tailscale-", b"x-envoy-"),
            # AWS, Google, Azure
            *(b"x-amzn-", b"cloudfront-", b"x-goog-authenticated-user-", b"x-goog-iap-", b"x-google-", b"x-appengine-"),
            *(b"x-ms-client-principal", b"x-ms-token-", b"x-azure-", b"x-arr-"),
        )
    )
)
"""In order, and none begins with another: so a name can begin with none but the last that does not come after it."""
