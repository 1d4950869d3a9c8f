"""JavaScript that several tests run in the browser."""

PLAYER = """
  const playToTheEnd = async (video) => {
    const ended = new Promise((resolve, reject) => {
      video.onended = resolve;
      video.onerror = () => reject(new Error(video.error.message));
    });
    await video.play();
    await ended;
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0);
    return context;
  };
"""


def with_player(function: str) -> str:
    """Return an arrow function that may call `playToTheEnd`, which returns the last picture."""
    return function.replace("=> {", "=> {" + PLAYER, 1)
