"""Tokens, and what is paid with them."""

from typing import Literal

PriceItem = Literal["whatsapp_conversation", "sms", "email", "call", "internal_llm_call", "monthly_fee"]
