"""The Python client of Rota.

with Rota() as rota:
    task = rota.wait(rota.submit("support-assistant", "Is there yoga tomorrow?"))
    print(task.answer)
"""

from rota_client import calls
from rota_client.aio import AsyncRota, AsyncStream
from rota_client.calls import Call, Page
from rota_client.client import Rota, Stream
from rota_client.errors import (
    Conflict,
    InvalidRequest,
    InvalidSignature,
    NotAuthenticated,
    NotConfigured,
    NotEnded,
    NotFound,
    NotPermitted,
    NotReachable,
    PreconditionRequired,
    Refused,
    RotaError,
    ServerFault,
    TooManyRequests,
    Unavailable,
    UnexpectedResponse,
)
from rota_client.models import (
    Approval,
    Attachment,
    Attempt,
    ClientTool,
    Conversation,
    Event,
    EventPage,
    Feedback,
    Message,
    OpenCall,
    Sent,
    Step,
    Task,
    TaskDetail,
    TaskError,
    ToolCall,
    ToolResult,
    Turn,
    Why,
)
from rota_client.text import Text
from rota_client.webhooks import Delivery, verify_webhook

__all__ = [
    "Approval",
    "AsyncRota",
    "AsyncStream",
    "Attachment",
    "Attempt",
    "Call",
    "ClientTool",
    "Conflict",
    "Conversation",
    "Delivery",
    "Event",
    "EventPage",
    "Feedback",
    "InvalidRequest",
    "InvalidSignature",
    "Message",
    "NotAuthenticated",
    "NotConfigured",
    "NotEnded",
    "NotFound",
    "NotPermitted",
    "NotReachable",
    "OpenCall",
    "Page",
    "PreconditionRequired",
    "Refused",
    "Rota",
    "RotaError",
    "Sent",
    "ServerFault",
    "Step",
    "Stream",
    "Task",
    "TaskDetail",
    "TaskError",
    "Text",
    "TooManyRequests",
    "ToolCall",
    "ToolResult",
    "Turn",
    "Unavailable",
    "UnexpectedResponse",
    "Why",
    "calls",
    "verify_webhook",
]
