"""Rules: payment, shop and commerce services.

Invariant: data only; every pattern begins with characters that ordinary artifacts do not hold.
"""

from __future__ import annotations

from typing import Final

from cas.secretrules.model import Rule, token

PAYMENTS: Final[tuple[Rule, ...]] = (
    token("stripe-live-key", "Stripe live key", rb"[sr]k_live_[A-Za-z0-9]{10,250}", "stripe"),
    token("stripe-test-key", "Stripe test key", rb"[sr]k_test_[A-Za-z0-9]{10,250}", "stripe"),
    token("stripe-org-key", "Stripe organisation key", rb"sk_org_[A-Za-z0-9_]{20,250}"),
    token("stripe-webhook-secret", "Stripe webhook secret", rb"whsec_[A-Za-z0-9+/]{32,80}={0,2}"),
    token("square-token", "Square token", rb"sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{22,43}"),
    token("square-access-token", "Square access token", rb"EAAA[A-Za-z0-9_-]{60}"),
    token(
        "braintree-token",
        "Braintree access token",
        rb"access_token\$(?:production|sandbox)\$[a-z0-9]{16}\$[0-9a-f]{32}",
    ),
    token("shopify-token", "Shopify token", rb"shp(?:at|ca|pa|ss|ua)_[0-9a-fA-F]{32}"),
    token("razorpay-key", "Razorpay key", rb"rzp_(?:live|test)_[A-Za-z0-9]{14,24}"),
    token("flutterwave-key", "Flutterwave key", rb"FLWSECK(?:_TEST)?-[0-9a-fA-Fh]{12,32}-X"),
    token("plaid-token", "Plaid access token", rb"access-(?:sandbox|development|production)-[0-9a-f-]{36}"),
    token(
        "adyen-key",
        "Adyen key",
        rb"AQE[A-Za-z0-9+/]{80,200}={0,2}-[A-Za-z0-9+/=]{40,60}-[^\s\"']{16,24}",
        end=b"",
    ),
)
