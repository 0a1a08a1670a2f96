"""Rules: language model providers and the tools around them.

Invariant: data only; every pattern begins with characters that ordinary artifacts do not hold.
"""

from __future__ import annotations

from typing import Final

from cas.secretrules.model import Rule, token

_TAIL = rb"(?![A-Za-z0-9_-])"

ASSISTANTS: Final[tuple[Rule, ...]] = (
    token("anthropic-key", "Anthropic key", rb"sk-ant-[a-z0-9]{2,12}-[A-Za-z0-9_-]{40,140}", end=_TAIL),
    token("openai-key", "OpenAI key", rb"sk-(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{40,220}", end=_TAIL),
    token("openrouter-key", "OpenRouter key", rb"sk-or-(?:v\d-)?[0-9a-f]{40,80}", end=_TAIL),
    token(
        "langfuse-key",
        "Langfuse secret key",
        rb"sk-lf-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        end=_TAIL,
    ),
    # OpenAI's first form, and the form that DeepSeek, Moonshot and self-hosted proxies share.
    token("llm-key", "language model provider key", rb"sk-[A-Za-z0-9]{20,64}", end=_TAIL),
    token("huggingface-token", "Hugging Face token", rb"(?:hf|api_org)_[A-Za-z0-9]{34}"),
    token("groq-key", "Groq key", rb"gsk_[A-Za-z0-9]{40,60}"),
    token("xai-key", "xAI key", rb"xai-[A-Za-z0-9]{60,100}"),
    token("perplexity-key", "Perplexity key", rb"pplx-[A-Za-z0-9]{40,64}"),
    token("replicate-token", "Replicate token", rb"r8_[A-Za-z0-9]{37,40}"),
    token("together-key", "Together key", rb"tgp_v1_[A-Za-z0-9_-]{40,50}"),
    token("fireworks-key", "Fireworks key", rb"fw_[A-Za-z0-9]{22,32}"),
    token("cerebras-key", "Cerebras key", rb"csk-[a-z0-9]{44,52}"),
    token("nvidia-key", "NVIDIA key", rb"nvapi-[A-Za-z0-9_-]{60,70}"),
    token("langsmith-key", "LangSmith key", rb"lsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}"),
    token("pinecone-key", "Pinecone key", rb"pcsk_[A-Za-z0-9]{4,8}_[A-Za-z0-9]{40,70}"),
    token("tavily-key", "Tavily key", rb"tvly-(?:dev-|prod-)?[A-Za-z0-9]{28,40}"),
    token("elevenlabs-key", "ElevenLabs or IEX Cloud key", rb"sk_(?:[0-9a-f]{48}|[0-9a-f]{32})"),
    token("wandb-key", "Weights & Biases key", rb"wandb_v1_[A-Za-z0-9_]{40,90}"),
    token("voyage-key", "Voyage key", rb"pa-[A-Za-z0-9_-]{43}", end=_TAIL),
    token("jina-key", "Jina key", rb"jina_[A-Za-z0-9_-]{50,64}"),
    token("firecrawl-key", "Firecrawl key", rb"fc-[0-9a-f]{32}"),
)
