"""Definitions of tools, some like each other, for tests that choose among them."""

from __future__ import annotations

from typing import Any

SCHEMA = {
    "type": "object",
    "properties": {"place": {"type": "string", "description": "The town or city."}},
    "required": ["place"],
}
DESCRIPTIONS = {
    "getWeatherForecast": "The weather of the next days: rain, wind and temperatures.",
    "book_flight": "Books a seat on a plane between two airports.",
    "search_hotels": "Finds rooms in hotels for the nights of a stay.",
    "convert_currency": "Converts an amount of money at today's exchange rate.",
    "send_email": "Sends a message to the mailbox of a person.",
    "create_calendar_event": "Puts a meeting into the calendar.",
    "translate_text": "Translates a text into another language.",
    "play_music": "Plays a song of an artist.",
    "order_food": "Has a meal delivered from a restaurant.",
    "git_commit": "Records the staged changes of a repository with a message.",
    "run_sql": "Runs a query against the tables of the database.",
    "resize_image": "Makes a picture smaller or larger.",
    "stock_price": "The price of the shares of a company.",
    "set_alarm": "Rings at a time of the day.",
    "find_recipe": "How to cook a dish, with its ingredients.",
}


def openai_tools() -> list[dict[str, Any]]:
    """As OpenAI's chats have them."""
    return [
        {"type": "function", "function": {"name": n, "description": d, "parameters": SCHEMA}}
        for n, d in DESCRIPTIONS.items()
    ]


def anthropic_tools() -> list[dict[str, Any]]:
    """As Anthropic's messages have them."""
    return [{"name": n, "description": d, "input_schema": SCHEMA} for n, d in DESCRIPTIONS.items()]
