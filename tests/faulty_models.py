"""Models behind Inspect that answer once, and then with nothing that counts."""

from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, ModelAPI, ModelOutput, modelapi

DUTIFUL, GONE = "faulty/dutiful", "faulty/gone"


class FaultyAPI(ModelAPI):
    """Answers the first word that it is asked for; then with nothing, with an error, or as its name says."""

    def __init__(self, model_name, base_url=None, api_key=None, config=None, **_):
        super().__init__(model_name)
        self.asked = []

    async def generate(self, input, tools, tool_choice, config):
        self.asked.append(input)
        says = {"blank": "", "dutiful": "A", "errors": None, "gone": None}[self.model_name]
        if input[-1].text == "Reply with the word OK." and self.model_name != "gone":
            says = "OK"
        if says is None or (config.logprobs and self.model_name == "dutiful"):
            raise ValueError("log-probabilities are not to be had here" if config.logprobs else "the service is broken")
        message = ChatMessageAssistant(content=says)
        return ModelOutput(model=self.model_name, choices=[ChatCompletionChoice(message=message)])


@modelapi(name="faulty")
def faulty():
    return FaultyAPI
