"""Rules: chat, mail and telephone services.

Invariant: data only; every pattern begins with characters that ordinary artifacts do not hold.
"""

from __future__ import annotations

from typing import Final

from cas.secretrules.model import Rule, token

MESSAGING: Final[tuple[Rule, ...]] = (
    token("slack-token", "Slack token", rb"xox[abeoprs]-(?:[A-Za-z0-9]{1,20}-){0,4}[A-Za-z0-9]{12,170}"),
    token("slack-config-token", "Slack configuration token", rb"xoxe\.xox[bp]-\d-[A-Za-z0-9]{100,180}"),
    token("slack-app-token", "Slack app token", rb"xapp-\d-[A-Z0-9]{6,20}-\d{6,20}-[A-Za-z0-9]{24,80}"),
    token(
        "slack-webhook",
        "Slack webhook address",
        rb"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9_/-]{20,90}",
    ),
    token(
        "discord-webhook",
        "Discord webhook address",
        rb"discord(?:app)?\.com/api/(?:v\d{1,2}/)?webhooks/\d{16,20}/[A-Za-z0-9_-]{40,80}",
    ),
    # The first part is a decimal user id in base64, hence the narrow first letters.
    token(
        "discord-token",
        "Discord bot token",
        rb"[MNO][DTjz][AEIMQUYcgk][A-Za-z0-9_-]{20,25}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,40}",
        end=rb"(?![A-Za-z0-9_-])",
    ),
    Rule(
        id="telegram-token",
        description="Telegram bot token",
        pattern=rb":AA[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])",
        check="telegram",
    ),
    token(
        "teams-webhook",
        "Microsoft Teams webhook address",
        rb"webhook\.office\.com/webhookb2/[0-9a-f-]{36}@[0-9a-f-]{36}/IncomingWebhook/[0-9a-f]{32}/[0-9a-f-]{36}",
    ),
    token("twilio-key", "Twilio API key", rb"SK[0-9a-f]{32}"),
    token("sendgrid-key", "SendGrid key", rb"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}"),
    token("mailgun-key", "Mailgun key", rb"key-[0-9a-f]{32}"),
    token("brevo-key", "Brevo key", rb"xkeysib-[0-9a-f]{64}-[A-Za-z0-9]{16}"),
    token("resend-key", "Resend key", rb"re_[A-Za-z0-9]{8}_[A-Za-z0-9]{22,28}"),
    token("mailersend-key", "MailerSend key", rb"mlsn\.[0-9a-f]{64}"),
    Rule(
        id="mailchimp-key",
        description="Mailchimp key",
        pattern=rb"-us\d{1,2}(?![A-Za-z0-9_-])",
        check="mailchimp",
        guard=rb"[0-9a-f]{8}-us\d",
        literals=(b"-us",),
    ),
)
