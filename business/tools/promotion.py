"""Marketing tools: retention campaigns, social posts and their texts."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from agents.tools.registry import Parameters, ToolContext, Wording, reading_tool, tool
from business.crm.schemas import ClientStatus
from business.office import service as gym
from business.office.schemas import Audience, Tone
from domain.office import service as office
from domain.office.schemas import Language, Platform

Tags = Annotated[list[Annotated[str, Field(min_length=1, max_length=50)]], Field(max_length=20)]
Channel = Annotated[Platform, Field(description="The social network")]
ClassName = Annotated[
    str | None, Field(max_length=100, description="The class's name or kind, such as yoga; all classes without it")
]
InLanguage = Annotated[Language, Field(description="The language: en English, es Spanish")]


class CreateRetentionCampaign(Parameters):
    """Whom it is for, and what it says."""

    name: Annotated[str, Field(min_length=1, max_length=100, description="The campaign's name")]
    message: Annotated[str, Field(min_length=1, max_length=5_000, description="What its members will be told")]
    status: Annotated[ClientStatus | None, Field(description="Only clients with this membership status")] = None
    tags: Annotated[Tags, Field(default_factory=list, description="Only clients who have all of these tags")]
    inactive_days: Annotated[
        int | None, Field(ge=1, le=3_650, description="Only clients who attended no class for so many days")
    ] = None


class ScheduleSocialPost(Parameters):
    """What is posted where, and when."""

    platform: Channel
    text: Annotated[str, Field(min_length=1, max_length=5_000, description="The post, with its hashtags")]
    scheduled_at: Annotated[
        datetime, Field(description="When, such as 2026-05-01T18:00; the gym's time unless an offset is given")
    ]
    media_url: Annotated[
        str | None, Field(max_length=2_000, pattern=r"^https?://\S+$", description="A picture or video, by its address")
    ] = None


class GenerateSocialContent(Parameters):
    """What to write about, and how."""

    platform: Channel
    class_name: ClassName = None
    tone: Annotated[Tone, Field(description="How it sounds")] = "friendly"
    language: InLanguage = "en"
    count: Annotated[int, Field(ge=1, le=10, description="How many posts to choose from")] = 3


class GenerateHashtags(Parameters):
    """What they are about."""

    topic: Annotated[str | None, Field(max_length=100, description="What the post is about, such as summer")] = None
    class_name: ClassName = None
    language: InLanguage = "en"
    count: Annotated[int, Field(ge=1, le=30, description="At most so many")] = 10


@tool(
    "create_retention_campaign",
    category="automation",
    parameters=CreateRetentionCampaign,
    permission="campaigns:write",
    changes_world=True,
    risk="low",
    sends_outside=False,
    moves_money=False,
    repeat_is_harmless=True,  # a second campaign of the same name is refused
    wording=Wording("create|make|start|plan|prepare|cre~|prepar~|haz campaign|campana", prose="message, name"),
    drafts_for_outside=True,
)
def create_retention_campaign(context: ToolContext, wanted: CreateRetentionCampaign) -> dict[str, Any]:
    """Create a retention campaign (win back, keep members) as a draft, for the clients who now have a status, tags, or
    no visit for some days; who cancelled, opted out or has no e-mail address is left out. Returns the campaign_id, how
    many members it has and some of their names. Sends nothing until a manager, who is told, launches it.
    """
    audience = Audience(status=wanted.status, tags=wanted.tags, inactive_days=wanted.inactive_days)
    return gym.create_campaign(
        context.connection,
        context.acting,
        name=wanted.name,
        kind="retention",
        audience=audience,
        message=wanted.message,
    )


@tool(
    "schedule_social_post",
    category="automation",
    parameters=ScheduleSocialPost,
    permission="social:write",
    changes_world=True,
    moves_money=False,
    repeat_is_harmless=True,  # the same post at the same time is refused
    risk="high",
    sends_outside=True,
)
def schedule_social_post(context: ToolContext, wanted: ScheduleSocialPost) -> dict[str, Any]:
    """Schedule a social media post on Instagram, Facebook, X or LinkedIn for a time to come (plan, publish later). At
    that time it is handed to managers and webhooks to publish. Returns the post_id. Refuses a time that has passed, and
    a text too long for the network.
    """
    return office.schedule_post(
        context.connection,
        context.acting,
        platform=wanted.platform,
        text=wanted.text,
        media_url=wanted.media_url,
        scheduled_at=wanted.scheduled_at,
        zone=context.zone,
    )


@reading_tool(
    "generate_social_content", category="automation", parameters=GenerateSocialContent, permission="social:read"
)
def generate_social_content(context: ToolContext, wanted: GenerateSocialContent) -> dict[str, Any]:
    """Generate social media posts (captions, drafts) about the gym's real classes and their next sessions. Filled in
    from fixed templates, without a model: the same question gets the same posts. Nothing is posted or kept.
    """
    posts = gym.write_posts(
        context.connection,
        platform=wanted.platform,
        class_name=wanted.class_name,
        tone=wanted.tone,
        language=wanted.language,
        count=wanted.count,
        today=context.today,
        zone=context.zone,
    )
    return {"platform": wanted.platform, "posts": posts, "count": len(posts)}


@reading_tool("generate_hashtags", category="automation", parameters=GenerateHashtags, permission="social:read")
def generate_hashtags(context: ToolContext, wanted: GenerateHashtags) -> dict[str, Any]:
    """Generate hashtags for a social media post from a topic and the names of the gym's real classes. Made by rule,
    without a model: the same question gets the same hashtags. Nothing is posted or kept.
    """
    tags = gym.write_hashtags(
        context.connection,
        topic=wanted.topic,
        class_name=wanted.class_name,
        language=wanted.language,
        count=wanted.count,
    )
    return {"hashtags": tags, "count": len(tags)}


PROMOTION_TOOLS = [
    create_retention_campaign,
    schedule_social_post,
    generate_social_content,
    generate_hashtags,
]
