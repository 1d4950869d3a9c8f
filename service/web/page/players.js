// The players of a clip, before and after.

/** Give the frame around a player the shape of its clip, so that it holds the picture and no bars. */
export function fitFrame(video) {
  const fit = () => {
    if (video.videoWidth) video.parentElement.style.setProperty("--ratio", video.videoWidth / video.videoHeight);
  };
  for (const name of ["loadedmetadata", "resize"]) video.addEventListener(name, fit);
}

/** Keep two players at the same moment: the second one has the controls. */
export function linkPlayers(follower, leader) {
  const align = () => {
    if (!leader.paused && follower.paused) follower.play().catch(() => {}); // the result plays in a loop
    if (Math.abs(follower.currentTime - leader.currentTime) > 0.1) follower.currentTime = leader.currentTime;
  };
  leader.addEventListener("play", () => follower.play().catch(() => {}));
  leader.addEventListener("pause", () => follower.pause());
  leader.addEventListener("ratechange", () => (follower.playbackRate = leader.playbackRate));
  for (const name of ["pause", "seeked", "timeupdate"]) leader.addEventListener(name, align);
}
