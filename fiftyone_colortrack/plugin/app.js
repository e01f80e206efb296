// What only the App can do: FiftyOne 1.22 has no operator that moves the playhead of a video. Not built: the
// App's own libraries are globals.
(() => {
  const { Operator, OperatorConfig, registerOperator } = window.__foo__;
  const SETTLED = 5000; // milliseconds in which a video that was just opened has loaded

  class GoToFrame extends Operator {
    get config() {
      return new OperatorConfig({ name: "go_to_frame", label: "Go to frame", unlisted: true });
    }

    useHooks() {
      return { looker: window.recoil.useRecoilValue(window.__fos__.modalLooker) };
    }

    // frame_number: from 1. While annotating there is another player, out of reach: nothing happens.
    async execute({ hooks: { looker }, params }) {
      if (!looker?.seekToFrame) return;
      const go = () => looker.seekToFrame(params.frame_number);
      go();
      if (params.frame_number === 1) return;
      // A video that is still being loaded cannot go anywhere, and when it can, the App's timeline sets it
      // back to its start.
      looker.addEventListener("load", go);
      const forget = looker.subscribeToState("frameNumber", (now) => now === 1 && setTimeout(go));
      setTimeout(() => {
        looker.removeEventListener("load", go);
        forget();
      }, SETTLED);
    }
  }

  registerOperator(GoToFrame, "@colortrack/fiftyone-colortrack");
})();
