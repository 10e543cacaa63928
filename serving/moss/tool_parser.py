"""MOSS's commands as OpenAI tool calls: vLLM's tool parser "moss"."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from vllm.entrypoints.chat_utils import make_tool_call_id
from vllm.entrypoints.generate.base.protocol import (
    DeltaFunctionCall,
    DeltaMessage,
    DeltaToolCall,
    ExtractedToolCallInformation,
    FunctionCall,
    ToolCall,
)
from vllm.tool_parsers import ToolParser

from serving.moss.commands import Command, Parameter, Tools, parse_commands, read_output
from serving.moss.tokenizer import COMMANDS_END

# Ends a generation behind commands and not behind None: after that MOSS writes on to its answer.
# The results of its commands are for the caller to write.
_CALL_END = f"){COMMANDS_END}"


class MossToolParser(ToolParser):  # type: ignore[misc]  # vLLM's classes are untyped here
    """The thoughts before a call are the content beside it, and come back with the next request.

    Thoughts that lead to no call are not shown.
    """

    # vLLM would have JSON written for these two, which MOSS has never seen.
    supports_required_and_named = False

    def __init__(self, tokenizer: Any, tools: list[Any] | None = None) -> None:
        super().__init__(tokenizer, tools)
        self._tools = _parameters(self.tools)
        self._sent_characters = 0
        self._called = False

    def adjust_request(self, request: Any) -> Any:
        """Let marks through, and stop behind a call. Raises ValueError where MOSS would be forced.

        vLLM answers that with 400.
        """
        if not request.tools or request.tool_choice == "none":
            return request
        if request.tool_choice not in (None, "auto"):
            raise ValueError('MOSS decides itself whether it calls a tool: tool_choice is "auto".')
        stop = request.stop or []
        request.stop = [*([stop] if isinstance(stop, str) else stop), _CALL_END]
        request.include_stop_str_in_output = True
        request.skip_special_tokens = False
        return request

    def extract_tool_calls(self, model_output: str, request: Any) -> ExtractedToolCallInformation:
        """Calls with the thoughts as content, or the answer as content."""
        output = read_output(model_output)
        calls = parse_commands(output.commands or "", self._tools)
        return ExtractedToolCallInformation(
            # Said also when there is no call: otherwise vLLM would show the output with its marks.
            tools_called=True,
            tool_calls=[
                ToolCall(function=FunctionCall(name=call.name, arguments=_json(call)))
                for call in calls
            ],
            content=(output.thoughts if calls else output.answer) or None,
        )

    def extract_tool_calls_streaming(
        self,
        previous_text: str,
        current_text: str,
        delta_text: str,
        previous_token_ids: Sequence[int],
        current_token_ids: Sequence[int],
        delta_token_ids: Sequence[int],
        request: Any,
    ) -> DeltaMessage | None:
        """Nothing until it is clear whether MOSS calls or answers, then all calls or the answer."""
        output = read_output(current_text)
        if output.commands is not None and not self._called:
            calls = parse_commands(output.commands, self._tools)
            self._called = bool(calls)
            if calls:
                return self._call_delta(output.thoughts, calls)
        if self._called or output.answer is None:
            return None
        content = output.answer[self._sent_characters :]
        self._sent_characters = len(output.answer)
        return DeltaMessage(content=content) if content else None

    def _call_delta(self, thoughts: str | None, calls: list[Command]) -> DeltaMessage:
        # vLLM compares the two at the end, and sends what is missing.
        self.prev_tool_call_arr = [
            {"name": call.name, "arguments": call.arguments} for call in calls
        ]
        self.streamed_args_for_tool = [_json(call) for call in calls]
        return DeltaMessage(
            content=thoughts or None,
            tool_calls=[
                DeltaToolCall(
                    index=index,
                    id=make_tool_call_id(),
                    type="function",
                    function=DeltaFunctionCall(name=call.name, arguments=_json(call)),
                )
                for index, call in enumerate(calls)
            ],
        )


def _json(call: Command) -> str:
    return json.dumps(call.arguments, ensure_ascii=False)


def _parameters(tools: Sequence[Any]) -> Tools:
    """From OpenAI's schemas; chat completions hold a function, Responses are one."""
    found: dict[str, list[Parameter]] = {}
    for tool in tools:
        function = getattr(tool, "function", tool)
        properties = (function.parameters or {}).get("properties") or {}
        found[function.name] = [
            Parameter(name, kind)
            if isinstance(kind := (schema or {}).get("type"), str)
            else Parameter(name)
            for name, schema in properties.items()
        ]
    return found
